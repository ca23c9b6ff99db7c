"""The program itself: built so that what is found in it is hard to use. (Of a release build; sanitizers exclude some.)"""

import os
import re
import subprocess

import pytest

from cluster import ROOT

BINARY = os.environ.get("COTERIE_BIN") or os.path.join(ROOT, "build", "coterie")
PROGRAMS = [BINARY, os.path.join(os.path.dirname(BINARY), "coteriectl")]


def read(program, *options):
    return subprocess.run(["readelf", "-W", *options, program], stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture(params=PROGRAMS, ids=os.path.basename)
def program(request):
    if "__asan_init" in read(request.param, "--dyn-syms", "-s"):
        pytest.skip("built with sanitizers")
    return request.param


def test_it_is_position_independent(program):
    assert re.search(r"Type:\s+DYN", read(program, "-h"))


def test_addresses_of_functions_are_read_only_after_the_start(program):
    assert "GNU_RELRO" in read(program, "-l")
    dynamic = read(program, "-d")
    assert "BIND_NOW" in dynamic or re.search(r"FLAGS_1.*NOW", dynamic)


def test_the_stack_is_not_executable_and_no_segment_both_writable_and_executable(program):
    segments = re.findall(r"^\s+(\w+)\s+0x\w+ 0x\w+ 0x\w+ 0x\w+ 0x\w+ ([RWE ]{3})", read(program, "-l"), re.M)
    assert ("GNU_STACK", "RW ") in segments
    assert not [name for name, rights in segments if "W" in rights and "E" in rights]


def test_the_stack_is_guarded_and_copies_are_checked(program):
    symbols = read(program, "--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", ""))


def test_jumps_are_restricted_where_the_processor_can(program):
    if "X86-64" not in read(program, "-h"):
        pytest.skip("not an x86-64")
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "--disassemble=main", program], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    assert re.search(r"<main>:\n[^\n]*\tendbr64", code)


def test_it_says_nothing_about_where_it_was_looked_for(program):
    assert not re.search(r"\((RPATH|RUNPATH)\)", read(program, "-d"))
