"""Signals that ask a process to end: heard, ignored where ``nohup`` says so, and left to the parent."""

import argparse
import os
import pty
import signal
import sys
import threading

import pytest

from clipzoo import signals
from clipzoo.cli import command_line
from clipzoo.signals import ENDING, Interrupt, Stopped, stopping


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def as_before():
    """No handler outlives a test."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    assert {number: signal.getsignal(number) for number in ENDING} == before


@pytest.mark.parametrize("number", ENDING)
def test_a_command_that_a_signal_ends_says_so_and_exits_with_128_more(number, capsys):
    closed = []

    def command(arguments):
        try:
            send(number)
        finally:
            closed.append("everything")

    with pytest.raises(SystemExit) as end:
        command_line.run(command, argparse.Namespace(debug=False))
    assert end.value.code == 128 + number and capsys.readouterr().err == "interrupted\n" and closed == ["everything"]


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(), Interrupt().listening() as interrupt:
            send(signal.SIGHUP)
        assert interrupt.signal is None and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_handlers_that_a_package_installs_are_undone(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    hook = sys.excepthook
    with pytest.raises(ZeroDivisionError), signals.unchanged():
        signal.signal(signal.SIGINT, lambda number, frame: None)
        sys.excepthook = print
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before and sys.excepthook is hook


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_is_remembered_and_the_second_ends_at_once(number):
    interrupt = Interrupt()
    with pytest.raises(Stopped) as end, interrupt.listening():
        send(number)
        assert interrupt.signal == number
        send(number)
    assert end.value.signal == number


def test_another_signal_is_no_second_one_but_ctrl_c_is():
    """A terminal that closes may send SIGHUP and SIGTERM, one after the other."""
    interrupt, heard = Interrupt(), []
    with pytest.raises(Stopped) as end, interrupt.listening():
        send(signal.SIGHUP)
        send(signal.SIGTERM)
        heard.append(interrupt.signal)
        send(signal.SIGINT)
    assert heard == [signal.SIGHUP] and end.value.signal == signal.SIGINT


def test_a_signal_that_came_too_late_for_the_loop_still_ends_the_process():
    with pytest.raises(Stopped) as end, Interrupt().listening():
        send(signal.SIGTERM)
    assert end.value.signal == signal.SIGTERM


def test_another_thread_catches_nothing():
    ended = []

    def listen():
        with Interrupt().listening():
            ended.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join(timeout=20)
    assert ended == [signal.getsignal(signal.SIGTERM)]


def test_what_is_written_to_a_terminal_that_has_gone_is_no_error():
    parent, terminal = pty.openpty()
    os.close(parent)
    with pytest.raises(OSError):
        os.write(terminal, b"lost")
    signals._leave_lost_terminals([terminal])
    assert os.write(terminal, b"lost") == 4
    os.close(terminal)
