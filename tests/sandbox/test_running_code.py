"""What code may count on in every sandbox: input, output, files, its libraries, and a true account of its end."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.tools.sandbox.base import KilledBy, Language
from tests.sandbox.conftest import Bench
from tests.sandbox.payloads import Payload

HELLO = Payload(
    "import sys\nprint(sys.stdin.read().upper(), end='')\nprint('grün 🌍', file=sys.stderr)\nsys.exit(3)",
    "process.stdout.write(require('fs').readFileSync(0, 'utf8').toUpperCase());"
    " console.error('grün 🌍'); process.exitCode = 3;",
)
FILES = Payload(
    """
import os
with open('data/rows.csv') as rows:
    total = sum(int(row) for row in rows)
os.makedirs('out/deep')
for name, text in (('out/deep/total.txt', str(total)), ('kept.txt', 'same'), ('edited.txt', 'later'), ('ü.txt', 'ü')):
    with open(name, 'w') as out:
        out.write(text)
os.remove('dropped.txt')
os.symlink('/etc/passwd', 'link')
os.mkfifo('pipe')
os.link('edited.txt', 'again.txt')
""",
    """
const fs = require('fs');
const rows = fs.readFileSync('data/rows.csv', 'utf8').trim().split('\\n');
fs.mkdirSync('out/deep', {recursive: true});
fs.writeFileSync('out/deep/total.txt', String(rows.reduce((sum, row) => sum + Number(row), 0)));
fs.writeFileSync('kept.txt', 'same');
fs.writeFileSync('edited.txt', 'later');
fs.writeFileSync('ü.txt', 'ü');
fs.rmSync('dropped.txt');
fs.symlinkSync('/etc/passwd', 'link');
fs.linkSync('edited.txt', 'again.txt');
""",
)
INPUTS = {"data/rows.csv": b"1\n2\n39\n", "kept.txt": b"same", "edited.txt": b"first", "dropped.txt": b""}


async def test_input_goes_in_and_both_outputs_and_the_exit_code_come_out(bench: Bench, language: Language) -> None:
    ended = await bench.run(HELLO.code(language), language, stdin="Größe 🌍\n")
    assert (ended.stdout, ended.stderr, ended.exit_code) == ("GRÖSSE 🌍\n", "grün 🌍\n", 3)
    assert (ended.killed_by, ended.files, ended.detail) == (KilledBy.NONE, {}, None)
    assert ended.usage.wall_s > 0
    assert ended.usage.cpu_s is not None and ended.usage.cpu_s > 0
    assert ended.usage.peak_memory_bytes is not None and ended.usage.peak_memory_bytes > 2**20


async def test_new_and_changed_files_come_back_and_links_do_not(bench: Bench, language: Language) -> None:
    ended = await bench.run(FILES.code(language), language, files=INPUTS)
    assert (ended.killed_by, ended.exit_code) == (KilledBy.NONE, 0), ended.stderr
    assert ended.files == {
        "again.txt": b"later",
        "edited.txt": b"later",
        "out/deep/total.txt": b"42",
        "ü.txt": "ü".encode(),
    }
    assert ended.left_out == (("link", "pipe") if language is Language.PYTHON else ("link",))


async def test_an_error_is_told_as_the_runtime_tells_it(bench: Bench) -> None:
    failed = await bench.run("def f():\n    return 1 / 0\nf()\n")
    assert (failed.killed_by, failed.exit_code) == (KilledBy.NONE, 1)
    assert failed.stderr.startswith("Traceback (most recent call last):")
    assert failed.stderr.endswith(
        "line 2, in f\n    return 1 / 0\n           ~~^~~\nZeroDivisionError: division by zero\n"
    )
    crashed = await bench.run("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert (crashed.killed_by, crashed.exit_code) == (KilledBy.NONE, -11)


async def test_javascript_may_be_a_script_or_a_module(bench: Bench) -> None:
    script = "console.log(require('./table.json').rows); setTimeout(() => console.log('later'), 10);"
    module = "import fs from 'fs';\nconsole.log(await fs.promises.readFile('table.json', 'utf8'));"
    files = {"table.json": b'{"rows": 7}'}
    assert (await bench.run(script, Language.JAVASCRIPT, files=files)).stdout == "7\nlater\n"
    assert (await bench.run(module, Language.JAVASCRIPT, files=files)).stdout == '{"rows": 7}\n'


async def test_code_may_import_its_files_and_is_not_among_them(bench: Bench) -> None:
    code = "import os, rates\nprint(rates.VAT, __name__, sorted(os.listdir('.')), __file__.startswith(os.getcwd()))"
    ended = await bench.run(code, files={"rates.py": b"VAT = 19"})
    assert ended.stdout == "19 __main__ ['.main.py', 'rates.py'] True\n"
    assert ended.files == {}
    same_name = await bench.run("print(open('.main.py').read())", files={".main.py": b"data"})
    assert (same_name.stdout, same_name.files) == ("data\n", {})


async def test_a_long_input_and_a_full_output_pass_whole(bench: Bench) -> None:
    ended = await bench.run(
        "import sys\ndata = sys.stdin.read()\nprint(len(data), file=sys.stderr)\nsys.stdout.write(data[:65536])",
        stdin="x" * 3_000_000,
    )
    assert (ended.stdout, ended.stderr) == ("x" * 65536, "3000000\n")
    assert (ended.killed_by, ended.stdout_truncated) == (KilledBy.NONE, False)


async def test_output_may_be_anything(bench: Bench) -> None:
    """Also what looks like the frames that carry it."""
    frames = b"x\0\0\0\x080 0 0 0z\0\0\0\0"
    ended = await bench.run(f"import sys\nsys.stdout.buffer.write({frames!r} + b'\\xff')")
    assert ended.stdout == frames.decode() + "\N{REPLACEMENT CHARACTER}"
    assert (ended.exit_code, ended.stderr) == (0, "")


async def test_unread_input_and_closed_outputs_end_well(bench: Bench) -> None:
    ended = await bench.run(
        "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(0.2)\nos._exit(5)", stdin="x" * 2**20
    )
    assert (ended.killed_by, ended.exit_code, ended.stdout) == (KilledBy.NONE, 5, "")


async def test_files_beyond_the_limits_are_named_and_left_out(bench: Bench) -> None:
    code = """
import os
for n in range(5):
    with open(f'{n}.txt', 'w') as out:
        out.write('x' * 10)
with open('0-large', 'wb') as out:
    out.truncate(50 << 20)
with open(b'not-utf8-\\xff', 'w'), open('line\\nbreak', 'w'):
    pass
deep = '/'.join(['d'] * 100)
os.makedirs(deep)
with open('locked', 'w') as out:
    out.write('lock')
os.chmod('locked', 0)
os.mkdir('closed')
os.chmod('closed', 0)
"""
    ended = await bench.run(code, files_bytes=45)
    assert ended.killed_by is KilledBy.NONE, ended.detail
    assert ended.files == {**{f"{n}.txt": b"x" * 10 for n in range(4)}, "locked": b"lock"}
    assert {"0-large", "4.txt", "line\N{REPLACEMENT CHARACTER}break"} <= set(ended.left_out)
    assert any(name.startswith("not-utf8-") for name in ended.left_out)


async def test_no_folder_costs_the_run_its_other_files(bench: Bench) -> None:
    code = """
import os
def write(name):
    with open(name, 'w') as out:
        out.write('1')
write('result.csv')
for mode in (0o000, 0o200, 0o400):
    os.mkdir(f'{mode:o}')
    write(f'{mode:o}/x')
    os.chmod(f'{mode:o}', mode)
os.mkdir('e' * 250)
write('e' * 250 + '/abcd')
write('e' * 250 + '/abcde')
top = os.getcwd()
for _ in range(18):
    os.mkdir('d' * 250)
    os.chdir('d' * 250)
write('lost')
if os.stat(top).st_uid == os.getuid():
    os.chmod(top, 0)
"""
    ended = await bench.run(code)
    assert (ended.killed_by, ended.exit_code) == (KilledBy.NONE, 0), ended.detail or ended.stderr
    assert set(ended.files) == {"result.csv", "0/x", "200/x", "400/x", "e" * 250 + "/abcd"}
    assert ended.left_out == ("d" * 250 + "/dddd", "e" * 250 + "/abcd")


async def test_more_files_than_the_limit_are_left_out(bench: Bench) -> None:
    code = "for n in range(150):\n    open(f'{n:03}', 'w').close()"
    ended = await bench.run(code)
    assert (list(ended.files), len(ended.left_out)) == ([f"{n:03}" for n in range(100)], 50)


async def test_the_libraries_of_data_work(bench: Bench) -> None:
    code = """
import numpy, pandas
frame = pandas.DataFrame({'city': ['A', 'B', 'A'], 'sold': numpy.array([1, 2, 3])})
print(frame.groupby('city')['sold'].sum().to_json(), float(numpy.linalg.det(numpy.eye(50))))
"""
    ended = await bench.run(code)
    assert (ended.stdout, ended.stderr) == ('{"A":4,"B":2} 1.0\n', "")


@pytest.mark.slow
async def test_a_plot_comes_back_as_an_image(bench: Bench) -> None:
    code = "import matplotlib.pyplot as plot\nplot.bar(['A', 'B'], [4, 2])\nplot.savefig('sold.png')"
    ended = await bench.run(code)
    assert (ended.killed_by, list(ended.files)) == (KilledBy.NONE, ["sold.png"]), ended.stderr
    assert ended.files["sold.png"].startswith(b"\x89PNG\r\n\x1a\n")


async def test_six_runs_at_a_time_know_nothing_of_each_other(bench: Bench) -> None:
    code = """
import os, sys
me = sys.stdin.read()
for path in (f'mine-{me}', f'/tmp/{me}'):
    with open(path, 'w') as out:
        out.write(me)
print(me, sorted(os.listdir('.')), sorted(os.listdir('/tmp')), sum(name.isdigit() for name in os.listdir('/proc')) < 5)
"""
    ended = await asyncio.gather(*(bench.run(code, stdin=str(n)) for n in range(6)))
    assert [run.stdout for run in ended] == [f"{n} ['.main.py', 'mine-{n}'] ['{n}'] True\n" for n in range(6)]
    assert [run.files for run in ended] == [{f"mine-{n}": str(n).encode()} for n in range(6)]


async def test_nothing_of_one_run_is_there_in_the_next(bench: Bench) -> None:
    first = await bench.run("for p in ('a', '/tmp/a'):\n    open(p, 'w').close()")
    second = await bench.run("import os\nprint(os.listdir('/tmp'), os.listdir('.'))")
    assert list(first.files) == ["a"]
    assert second.stdout == "[] ['.main.py']\n"


@pytest.mark.parametrize("name", ["HOME", "TMPDIR"])
async def test_the_home_and_the_temporary_folder_can_be_written(bench: Bench, name: str) -> None:
    ended = await bench.run(f"import os\nopen(os.path.join(os.environ[{name!r}], 'x'), 'w').close()\nprint('written')")
    assert ended.stdout == "written\n", ended.stderr
