"""Free and used memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clipzoo.runtime.jobs import memory

GIB = 2**30


@pytest.fixture
def system(tmp_path):
    """``system(file=text)``: a tree with these files in place of ``/``."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


MEMINFO = {"proc/meminfo": f"MemTotal: {9 * 2**20} kB\nMemAvailable: {6 * 2**20} kB\n"}


def test_the_limit_of_a_container_counts_without_cached_files(system):
    assert memory.available(system(MEMINFO)) == 6 * GIB
    group = "sys/fs/cgroup"
    stat = {f"{group}/memory.stat": f"anon 5\ninactive_file {GIB}\n", f"{group}/memory.current": str(3 * GIB)}
    assert memory.available(system({**stat, f"{group}/memory.max": "max\n"})) == 6 * GIB
    assert memory.available(system({f"{group}/memory.max": str(4 * GIB)})) == 2 * GIB
    assert memory.available(system({f"{group}/memory.max": str(GIB)})) == 0
    old = {"memory.stat": f"inactive_file {GIB}\n", "memory.usage_in_bytes": str(2 * GIB), "memory.limit_in_bytes": str(3 * GIB)}
    system({f"{group}/memory.max": "max\n", **{f"{group}/memory/{name}": text for name, text in old.items()}})
    assert memory.available(system({})) == 2 * GIB


def test_nobody_knows_where_there_is_no_proc(tmp_path):
    assert memory.available(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells the memory of processes")
def test_used_memory_is_that_of_a_process_and_its_children():
    code = """
import subprocess, sys
from clipzoo.runtime.jobs import memory
before = memory.used()
block = b'x' * 2**27
with_block = memory.used()
code = "block = b'x' * 2**27; print(1, flush=True); input()"
child = subprocess.Popen([sys.executable, '-S', '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.read(1)
with_child = memory.used()
child.communicate(b'\\n')
print(with_block - before, with_child - with_block, memory.gpu_used(), memory.gpu_available())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    block, child, *gpu = map(int, done.stdout.split())
    assert 2**27 * 0.9 < block < 2**27 * 1.2 and 2**27 <= child < 2**27 * 1.2 and gpu == [0, 0]
