"""`wsi-mil VERB ...`: finds the verb, turns a user's mistake into one line and an exit code."""

import sys
from importlib import import_module

import click

import wsi_mil
from wsi_mil.errors import WsiMilError, nearest
from wsi_mil.stages.table import STAGES

VERBS = {
    "run": "the whole pipeline, from slides to report",
    "demo": "a synthetic cohort to a report: no download, no GPU",
    "synth": "write a synthetic cohort with exact truth",
    "check": "open every slide and tell what is known and what is wrong",
    "tile": STAGES["tile"].help,
    "extract": STAGES["extract"].help,
    "train": STAGES["train"].help,
    "score": STAGES["score"].help,
    "heatmap": STAGES["heatmap"].help,
    "refine": "pixel-level maps inside suspicious tiles",
    "evaluate": STAGES["evaluate"].help,
    "report": STAGES["report"].help,
    "audit": "does a method, or a trained model, see tumour or a shortcut?",
    "poison": "train with a signal that has nothing to do with tumour: who follows it?",
    "import": "features that TRIDENT or CLAM made, into a run",
    "export": "features for TRIDENT, CLAM, torchmil or AnnData",
    "push": "copy a run folder to an object store",
    "pull": "copy a run from an object store",
    "predict": "unlabelled slides through a trained model",
    "ls": "list encoders, aggregators, readers, or what a run holds",
}
MODULES = {"import": "import_features", "export": "export_features"}  # `import` is no name for a module
EXIT_USER_ERROR, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 3, 130


class LazyGroup(click.Group):
    """Knows every verb's name and sentence without importing it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            raise click.UsageError(f"No verb {cmd_name!r}. Nearest: {nearest(cmd_name, list(VERBS))}.", ctx)
        if cmd_name in STAGES:
            return import_module("wsi_mil.cli.stage").command_for(cmd_name)  # type: ignore[no-any-return]
        return import_module(f"wsi_mil.cli.{MODULES.get(cmd_name, cmd_name)}").command  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: wsi-mil demo, then open runs/demo/report.html",
)
@click.version_option(wsi_mil.__version__, prog_name="wsi_mil")
@click.option("-v", "--verbose", count=True, help="Also say why.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
def cli(verbose: int, quiet: bool) -> None:
    """From a folder of whole-slide images and one label per slide to checked tumour heatmaps.

    Exit codes: 0 all done; 1 a mistake that you can mend; 3 finished, but some slides failed (a table says why); 4 an audit's verdict is
    not the required one.
    """
    from wsi_mil.logs import setup_console

    setup_console(-1 if quiet else verbose)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="wsi-mil", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.Abort:
        click.echo("interrupted: finished slides are kept, run the same command to go on", err=True)
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted: finished slides are kept, run the same command to go on", err=True)
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = EXIT_USER_ERROR
    except WsiMilError as error:
        click.echo(f"error: {error}", err=True)
        code = EXIT_USER_ERROR
    except OSError as error:
        click.echo(f"error: {error.strerror or error}: {error.filename or ''}", err=True)
        code = EXIT_USER_ERROR
    sys.exit(code if isinstance(code, int) else 0)
