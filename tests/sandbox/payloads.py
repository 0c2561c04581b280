"""Hostile code that looks for a way out, each in Python and in JavaScript.

A payload tries doors and prints one line for each, `open NAME ...` or `shut NAME ...`, then `done`. It reads what it
needs to know of the outside (a port, paths, a process) as JSON from its stdin.
"""

from __future__ import annotations

from dataclasses import dataclass

from conductor_ai.tools.sandbox.base import Language


@dataclass(frozen=True, slots=True)
class Payload:
    python: str
    javascript: str

    def code(self, language: Language) -> str:
        return self.python if language is Language.PYTHON else self.javascript


_PYTHON = """
import ctypes, json, os, socket, subprocess, sys
known = json.load(sys.stdin)
def door(name, attempt):
    try:
        found = attempt()
    except BaseException as exc:
        print('shut', name, type(exc).__name__, exc)
    else:
        print('open', name, repr(found)[:2000])
def connected(family, kind, address):
    with socket.socket(family, kind) as s:
        s.settimeout(5)
        s.connect(address)
def content(path):
    with open(path, 'rb') as f:
        return f.read(2000)
def written(path):
    with open(path, 'wb') as f:
        return f.write(b'x')
"""
_JAVASCRIPT = """
const fs = require('fs'), net = require('net'), path = require('path'), cp = require('child_process');
const known = JSON.parse(fs.readFileSync(0, 'utf8'));
async function door(name, attempt) {
  try { const found = await attempt(); console.log('open', name, String(found).slice(0, 2000)); }
  catch (e) { console.log('shut', name, e.code || e.message); }
}
const connected = options => new Promise((yes, no) => {
  const s = net.connect(options, () => { s.end('x'); yes('connected'); });
  s.on('error', no); s.setTimeout(5000, () => { s.destroy(); no(new Error('timeout')); });
});
const content = file => fs.readFileSync(file);
const written = file => { fs.writeFileSync(file, 'x'); return 'written'; };
const ran = (...argv) => {
  const ended = cp.spawnSync(argv[0], argv.slice(1), {encoding: 'utf8', timeout: 5000});
  if (ended.error) throw ended.error;
  if (ended.status !== 0) throw new Error('exit ' + ended.status);
  return ended.stdout;
};
(async () => {
"""


def _wall(python: str, javascript: str) -> Payload:
    return Payload(f"{_PYTHON}{python}\nprint('done')\n", f"{_JAVASCRIPT}{javascript}\nconsole.log('done');\n}})();\n")


WALLS = {
    "network": _wall(
        """
door('loopback', lambda: connected(socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', known['port'])))
door('loopback-6', lambda: connected(socket.AF_INET6, socket.SOCK_STREAM, ('::1', known['port'])))
door('metadata', lambda: connected(socket.AF_INET, socket.SOCK_STREAM, ('169.254.169.254', 80)))
door('outside', lambda: connected(socket.AF_INET, socket.SOCK_DGRAM, ('192.0.2.1', 53)))
door('names', lambda: socket.getaddrinfo('example.com', 443))
door('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
door('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
""",
        """
await door('loopback', () => connected({host: '127.0.0.1', port: known.port}));
await door('loopback-6', () => connected({host: '::1', port: known.port}));
await door('metadata', () => connected({host: '169.254.169.254', port: 80}));
await door('outside', () => new Promise((yes, no) => {
  const s = require('dgram').createSocket('udp4');
  s.send('x', 53, '192.0.2.1', e => { s.close(); e ? no(e) : yes('sent'); });
}));
await door('names', () => require('dns').promises.lookup('example.com'));
""",
    ),
    "unix-sockets": _wall(
        """
door('abstract', lambda: connected(socket.AF_UNIX, socket.SOCK_STREAM, '\\0' + known['abstract']))
for name in known['sockets']:
    door(name, lambda: connected(socket.AF_UNIX, socket.SOCK_STREAM, name))
""",
        """
await door('abstract', () => connected({path: '\\0' + known.abstract}));
for (const name of known.sockets) await door(name, () => connected({path: name}));
""",
    ),
    "host-files": _wall(
        """
for path in known['files']:
    door(path, lambda: content(path))
    door('by root', lambda: content('/proc/1/root' + path))
    door('by folder', lambda: content('/proc/1/cwd/../..' + path))
""",
        """
for (const file of known.files) {
  await door(file, () => content(file));
  await door('by root', () => content('/proc/1/root' + file));
  await door('by folder', () => content('/proc/1/cwd/../..' + file));
}
""",
    ),
    "read-only": _wall(
        """
for folder in ('/', '/usr', '/usr/bin', '/etc', '/var', '/dev', '/sys', '/proc', '/proc/sys/kernel', sys.prefix):
    door(folder, lambda: written(os.path.join(folder, 'left-here')))
door('interpreter', lambda: open(sys.executable, 'r+b'))
""",
        """
for (const folder of ['/', '/usr', '/usr/bin', '/etc', '/var', '/dev', '/sys', '/proc', '/proc/sys/kernel'])
  await door(folder, () => written(path.join(folder, 'left-here')));
await door('interpreter', () => fs.openSync(process.execPath, 'r+'));
""",
    ),
    "proc-sys": _wall(
        """
for name in ('sys/kernel/core_pattern', 'sys/vm/overcommit_memory', 'sys/kernel/modprobe', 'sysrq-trigger',
             'sys/fs/binfmt_misc/register', 'kcore', 'kmsg', '1/mem', '1/environ'):
    door(name, lambda: os.open('/proc/' + name, os.O_RDWR))
""",
        """
for (const name of ['sys/kernel/core_pattern', 'sys/vm/overcommit_memory', 'sys/kernel/modprobe', 'sysrq-trigger',
    'sys/fs/binfmt_misc/register', 'kcore', 'kmsg', '1/mem', '1/environ'])
  await door(name, () => fs.openSync('/proc/' + name, 'r+'));
""",
    ),
    "privileges": _wall(
        """
door('root', lambda: os.getuid() and 1 / 0)
door('setuid', lambda: os.setuid(0))
door('setgroups', lambda: os.setgroups([0]))
door('chroot', lambda: os.chroot('/tmp'))
door('mknod', lambda: os.mknod('disk', 0o660 | 0o060000, os.makedev(8, 0)))
door('nice', lambda: os.nice(-5))
door('new privileges', lambda: 1 / ('NoNewPrivs:\\t0' in open('/proc/self/status').read()))
door('capabilities', lambda: 1 / ('CapEff:\\t0000000000000000' not in open('/proc/self/status').read()))
door('no filter', lambda: 1 / ('Seccomp:\\t2' not in open('/proc/self/status').read()))
for name in ('mem', 'kmem', 'kmsg', 'port', 'kvm', 'fuse', 'sda', 'vda', 'loop0', 'net/tun', 'vsock'):
    door(name, lambda: os.open('/dev/' + name, os.O_RDONLY))
""",
        """
const status = fs.readFileSync('/proc/self/status', 'utf8');
const unless = held => { if (held) throw new Error('held'); };
await door('root', () => unless(process.getuid()));
await door('setuid', () => process.setuid(0));
await door('setgroups', () => process.setgroups([0]));
await door('mknod', () => ran('mknod', 'disk', 'b', '8', '0'));
await door('new privileges', () => unless(status.includes('NoNewPrivs:\\t1')));
await door('capabilities', () => unless(status.includes('CapEff:\\t0000000000000000')));
await door('no filter', () => unless(status.includes('Seccomp:\\t2')));
for (const name of ['mem', 'kmem', 'kmsg', 'port', 'kvm', 'fuse', 'sda', 'vda', 'loop0', 'net/tun', 'vsock'])
  await door(name, () => fs.openSync('/dev/' + name));
""",
    ),
    "other-processes": _wall(
        """
door('signal', lambda: os.kill(known['pid'], 0))
door('watch', lambda: os.listdir('/proc/%d' % known['pid']))
for pid in {1, os.getppid()}:
    for name in ('environ', 'maps', 'mem', 'stack', 'fd/0', 'fd/1'):
        door('%d/%s' % (pid, name), lambda: os.open('/proc/%d/%s' % (pid, name), os.O_WRONLY if 'fd' in name else 0))
""",
        """
await door('signal', () => process.kill(known.pid, 0));
await door('watch', () => fs.readdirSync('/proc/' + known.pid));
for (const pid of new Set([1, process.ppid]))
  for (const name of ['environ', 'maps', 'mem', 'stack', 'fd/0', 'fd/1'])
    await door(pid + '/' + name, () => fs.openSync(`/proc/${pid}/${name}`, name.startsWith('fd') ? 'w' : 'r'));
""",
    ),
    "kernel": _wall(
        """
libc = ctypes.CDLL(None, use_errno=True)
x86 = {'unshare': 272, 'mount': 165, 'pivot_root': 155, 'bpf': 321, 'io_uring_setup': 425, 'perf_event_open': 298,
       'userfaultfd': 323, 'add_key': 248, 'keyctl': 250, 'init_module': 175, 'kexec_load': 246, 'setns': 308,
       'open_by_handle_at': 304, 'swapon': 167, 'reboot': 169, 'settimeofday': 164, 'fsopen': 430, 'move_mount': 429}
arm = {'unshare': 97, 'mount': 40, 'pivot_root': 41, 'bpf': 280, 'io_uring_setup': 425, 'perf_event_open': 241,
       'userfaultfd': 282, 'add_key': 217, 'keyctl': 219, 'init_module': 105, 'kexec_load': 104, 'setns': 268,
       'open_by_handle_at': 265, 'swapon': 224, 'reboot': 142, 'settimeofday': 170, 'fsopen': 430, 'move_mount': 429}
numbers = x86 if os.uname().machine == 'x86_64' else arm
buffer = ctypes.create_string_buffer(256)
def called(name, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(numbers[name]), *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
def number(value):
    return ctypes.c_long(value)
for name, flag in (('user', 0x10000000), ('mount', 0x20000), ('pid', 0x20000000), ('net', 0x40000000)):
    door('unshare-' + name, lambda: called('unshare', number(flag)))
door('mount', lambda: called('mount', b'none', b'/tmp', b'tmpfs', number(0), None))
door('bind', lambda: called('mount', b'/', b'/tmp', None, number(4096), None))
door('pivot_root', lambda: called('pivot_root', b'/tmp', b'/tmp'))
door('setns', lambda: called('setns', number(os.open('/proc/self/ns/net', 0)), number(0)))
door('bpf', lambda: called('bpf', number(0), buffer, number(48)))
door('perf', lambda: called('perf_event_open', buffer, number(0), number(-1), number(-1), number(0)))
door('userfaultfd', lambda: called('userfaultfd', number(0)))
door('add_key', lambda: called('add_key', b'user', b'name', b'value', number(5), number(-3)))
door('keyctl', lambda: called('keyctl', number(0), number(-3), number(0)))
door('module', lambda: called('init_module', buffer, number(1), b''))
door('kexec', lambda: called('kexec_load', number(0), number(0), None, number(0)))
door('handle', lambda: called('open_by_handle_at', number(-100), buffer, number(0)))
door('swapon', lambda: called('swapon', b'/tmp/swap', number(0)))
door('clock', lambda: called('settimeofday', buffer, None))
door('io_uring', lambda: called('io_uring_setup', number(4), buffer))
door('fsopen', lambda: called('fsopen', b'tmpfs', number(0)))
door('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
door('vsock', lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
door('alg', lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET))
""",
        """
await door('unshare-user', () => ran('unshare', '--user', 'true'));
await door('unshare-net', () => ran('unshare', '--net', 'true'));
await door('unshare-mount', () => ran('unshare', '--map-root-user', '--mount', 'true'));
await door('mount', () => ran('mount', '-t', 'tmpfs', 'none', '/tmp'));
await door('bind', () => ran('mount', '--bind', '/', '/tmp'));
await door('setns', () => ran('nsenter', '--target', '1', '--net', 'true'));
await door('keys', () => ran('keyctl', 'add', 'user', 'name', 'value', '@u'));
await door('modules', () => ran('modprobe', 'dummy'));
await door('mount-namespace-of-1', () => fs.readdirSync('/proc/1/root/root'));
""",
    ),
}
"""By wall."""

SECRETS = Payload(
    """
import glob, os, sys
print(dict(os.environ))
for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline') + glob.glob('/proc/*/task/*/environ'):
    try:
        print(path, open(path, 'rb').read())
    except OSError as exc:
        print(path, exc)
for root, _, names in os.walk('/proc/self'):
    for name in names:
        if name in ('environ', 'cmdline', 'maps', 'mountinfo', 'status', 'cgroup', 'auxv'):
            try:
                print(open(os.path.join(root, name), 'rb').read()[:300])
            except OSError as exc:
                print(name, exc)
print('done', file=sys.stderr)
""",
    """
const fs = require('fs');
console.log(JSON.stringify(process.env));
for (const pid of fs.readdirSync('/proc').filter(name => /^[0-9]+$|^self$/.test(name)))
  for (const name of ['environ', 'cmdline', 'mountinfo', 'status', 'cgroup'])
    try { console.log(fs.readFileSync(`/proc/${pid}/${name}`, 'latin1')); } catch (e) { console.log(e.code); }
console.error('done');
""",
)
"""Prints every place in which a value of the server's environment could be seen."""
