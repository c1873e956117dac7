"""Every signal that ends a command ends it like Ctrl-C; a second one does not disturb the clean-up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_mil.cli.signals import ending_like_ctrl_c

COMMAND = """
import sys, time
from wsi_mil.cli.main import cli, main
def work(context):
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(float(sys.argv[1]))
        print("clean", flush=True)
cli.invoke = work
main(["run"])
"""


def start(*, cleaning_s: float = 0.0, ignored: signal.Signals | None = None) -> subprocess.Popen[str]:
    def before() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(cleaning_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_exit_code_names_the_signal(kind: signal.Signals, code: int) -> None:
    process = start()
    process.send_signal(kind)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output) == (code, "cleaning\nclean\n")
    assert error == "\ninterrupted: finished slides are kept, run the same command to continue\n"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_lets_the_clean_up_finish(second: signal.Signals) -> None:
    process = start(cleaning_s=0.5)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(second)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output) == (130, "clean\n")
    assert error.startswith("stopping: finished slides are being saved\n")


def test_nohup_is_respected() -> None:
    process = start(ignored=signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    process.communicate()


def test_a_closed_terminal_does_not_change_the_exit_code() -> None:
    process = start()
    assert process.stderr is not None
    process.stderr.close()  # writing to it fails from now on
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 129
    assert process.stdout is not None
    process.stdout.close()


def test_handlers_are_those_of_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(KeyboardInterrupt), ending_like_ctrl_c() as received:
        os.kill(os.getpid(), signal.SIGTERM)
    assert received.exit_code == 143
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.slow
def test_a_cluster_leaves_ctrl_c_to_the_command(tmp_path: Path) -> None:
    """Importing dask_jobqueue sets a handler that ends the program with exit code 0."""
    pytest.importorskip("dask_jobqueue")
    code = """
import signal
from wsi_mil.execution.clusters import ClusterSpec, make_cluster
before = signal.getsignal(signal.SIGINT)
make_cluster(ClusterSpec(kind="slurm")).close()
assert signal.getsignal(signal.SIGINT) is before, signal.getsignal(signal.SIGINT)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)
