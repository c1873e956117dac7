"""`wsi-mil SUBCOMMAND ...`: finds the subcommand, turns a user's mistake into one line and an exit code."""

import sys
from contextlib import suppress

import click

import wsi_mil
from wsi_mil.cli.exit_codes import EXIT_USER_ERROR
from wsi_mil.cli.signals import Received, ending_like_ctrl_c
from wsi_mil.cli.subcommands import list_subcommands, load_subcommand, subcommand_names
from wsi_mil.errors import WsiMilError, nearest, one_line
from wsi_mil.trust import safe_path, trusted

INTERRUPTED = "interrupted: finished slides are kept, run the same command to continue"


class SubcommandGroup(click.Group):
    """The subcommands of `wsi_mil.cli.subcommands`. Calling one imports that one only; `--help` imports
    none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [line.name for line in list_subcommands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = subcommand_names()
        if cmd_name not in known:
            raise click.UsageError(f"No subcommand {cmd_name!r}. Nearest: {nearest(cmd_name, known)}.", ctx)
        return load_subcommand(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Subcommands"):
            formatter.write_dl([(line.name, line.summary) for line in list_subcommands()])


@click.group(
    cls=SubcommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: wsi-mil demo, then open runs/demo/report.html",
)
@click.version_option(wsi_mil.__version__, prog_name="wsi_mil")
@click.option("-v", "--verbose", count=True, help="Also print tracebacks of slides that failed.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.pass_context
def cli(context: click.Context, verbose: int, quiet: bool) -> None:
    """From a folder of whole-slide images and one label per slide to checked tumour heatmaps.

    Exit codes: 0 all done; 1 a mistake that you can correct; 3 finished, but some slides failed (a table says
    why); 4 an audit's verdict is not the required one; 130 interrupted, 143 terminated, 129 terminal closed.
    """
    from wsi_mil.logs import setup_console

    context.with_resource(safe_path())
    context.with_resource(trusted())  # what this command line trusts ends with it
    setup_console(-1 if quiet else verbose)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    with ending_like_ctrl_c() as received:
        code = _exit_code(arguments, received)
    sys.exit(code)


def _exit_code(arguments: list[str] | None, received: Received) -> int:
    try:
        code = cli.main(args=arguments, prog_name="wsi-mil", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted(received)
    except click.ClickException as error:
        error.show()
        code = EXIT_USER_ERROR
    except WsiMilError as error:
        code = _failed(error, str(error))
    except OSError as error:
        if received.number:  # stderr of a terminal that was closed
            return _interrupted(received)
        code = _failed(error, f"{error.strerror or error}: {error.filename or ''}")
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {error}"
        code = _failed(error, f"{what}: `wsi-mil -v` shows the traceback")
    return code if isinstance(code, int) else 0


def _failed(error: Exception, reason: str) -> int:
    """Print an error in one line, with -v also its traceback."""
    from wsi_mil.logs import logger

    logger().debug("the traceback of the error:", exc_info=error)
    click.echo(f"error: {one_line(reason)}", err=True)
    return EXIT_USER_ERROR


def _interrupted(received: Received) -> int:
    with suppress(OSError):  # the terminal was closed
        click.echo(INTERRUPTED, err=True)
    return received.exit_code
