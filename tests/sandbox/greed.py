"""Hostile code that takes all it can get, or does not go away, each in Python and in JavaScript."""

from __future__ import annotations

from conductor_ai.tools.sandbox.base import KilledBy, Language
from tests.sandbox.payloads import Payload

GREED: dict[str, tuple[Payload, frozenset[KilledBy]]] = {
    "memory-at-once": (
        Payload(
            "b = bytearray(4 << 30)\nprint('got', len(b))",
            "const held = []; while (held.length < 64) held.push(Buffer.alloc(64 * 2 ** 20, 1)); console.log('got');",
        ),
        frozenset({KilledBy.MEMORY}),
    ),
    "memory-bit-by-bit": (
        Payload(
            "b = []\nfor _ in range(4096):\n    b.append(b'x' * (1 << 20))\nprint('got', len(b))",
            "const held = []; for (;;) held.push(new Array(1000).fill(0).map((_, i) => ({i, at: held.length})));",
        ),
        frozenset({KilledBy.MEMORY}),
    ),
    "endless-output": (
        Payload("while True:\n    print('x' * 1000)", "for (;;) require('fs').writeSync(1, 'x'.repeat(1000));"),
        frozenset({KilledBy.OUTPUT}),
    ),
    "endless-errors": (
        Payload(
            "import sys\nwhile True:\n    sys.stderr.write('x' * 1000)",
            "for (;;) require('fs').writeSync(2, 'x'.repeat(1000));",
        ),
        frozenset({KilledBy.OUTPUT}),
    ),
    "endless-cpu": (Payload("while True: pass", "for (;;);"), frozenset({KilledBy.TIME})),
    "endless-sleep": (
        Payload("import time\ntime.sleep(10**6)", "setTimeout(() => {}, 2 ** 30);"),
        frozenset({KilledBy.TIME}),
    ),
    "signals-ignored": (
        Payload(
            "import signal\nfor n in set(signal.valid_signals()) - {9, 19, 32, 33}:\n"
            "    signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
            "for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']) process.on(name, () => {});"
            " setInterval(() => {}, 1000);",
        ),
        frozenset({KilledBy.TIME}),
    ),
    "traced-child": (
        Payload(
            "import ctypes, os, time\nlibc = ctypes.CDLL(None)\nif os.fork() == 0:\n    libc.ptrace(0, 0, 0, 0)\n"
            "    os.kill(os.getpid(), 5)\n    time.sleep(10**6)\nos.wait()\ntime.sleep(10**6)",
            "require('child_process').spawnSync(process.execPath, ['-e', 'process.kill(process.pid, \"SIGSTOP\")']);",
        ),
        frozenset({KilledBy.TIME}),
    ),
}
"""What takes without end, and how such a run may end."""

FORK_BOMB = Payload(
    """
import os, time
def bomb():
    while True:
        try:
            if os.fork() == 0:
                continue
        except OSError:
            time.sleep(0.01)
for _ in range(20):
    try:
        if os.fork() == 0:
            bomb()
    except OSError:
        pass
deadline = time.monotonic() + 0.5
most = 0
while time.monotonic() < deadline:
    try:
        most = max(most, sum(name.isdigit() for name in os.listdir('/proc')))
    except OSError:
        pass
print(most)
""",
    """
const cp = require('child_process'), fs = require('fs');
let failed = 0, most = 0;
for (let i = 0; i < 300; i++) {
  const child = cp.spawn('sleep', ['1000']);
  child.on('error', () => { failed++; });
}
const count = () => fs.readdirSync('/proc').filter(name => /^[0-9]+$/.test(name)).length;
setTimeout(() => { most = count(); console.log(most); process.exit(0); }, 300);
""",
)
"""Prints how many processes it had."""

DISK_FILL = Payload(
    """
import os
for folder in ('.', '/tmp', '/dev/shm'):
    size, path = 0, os.path.join(folder, 'fill')
    try:
        with open(path, 'wb', buffering=0) as out:
            for _ in range(2048):
                size += out.write(b'x' * (1 << 20))
    except OSError as exc:
        pass
    try:
        os.unlink(path)
    except OSError:
        pass
    print(folder, size)
""",
    """
const fs = require('fs');
for (const folder of ['.', '/tmp', '/dev/shm']) {
  let size = 0;
  try {
    const out = fs.openSync(folder + '/fill', 'w');
    for (let i = 0; i < 2048; i++) size += fs.writeSync(out, Buffer.alloc(2 ** 20, 1));
  } catch (e) {}
  try { fs.unlinkSync(folder + '/fill'); } catch (e) {}
  console.log(folder, size);
}
""",
)
"""Prints for each folder how many bytes went in."""

DAEMON = Payload(
    """
import os, signal, subprocess, sys, time
for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(n, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(10**6)', MARK])
    os._exit(0)
print('left', flush=True)
""",
    """
const child = require('child_process').spawn(process.execPath,
  ['-e', 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)', MARK], {detached: true, stdio: 'inherit'});
child.unref();
console.log('left');
process.exit(0);
""",
)
"""Leaves a process behind that listens to no signal; its command line holds MARK, which is to be replaced."""

WAITING = Payload(
    "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(10**6)', MARK])",
    "require('child_process').spawnSync(process.execPath, ['-e', 'setInterval(() => {}, 1000)', MARK]);",
)
"""Never ends; its child's command line holds MARK, which is to be replaced."""


def marked(payload: Payload, language: Language, mark: str) -> str:
    return payload.code(language).replace("MARK", repr(mark))
