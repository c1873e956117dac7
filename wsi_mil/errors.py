"""All errors of the package. Each message says what is wrong and where, what was expected and found, and
what to do."""


class WsiMilError(Exception):
    """A problem that the user can solve; the CLI shows its message in one line, without a traceback."""


class ConfigError(WsiMilError):
    """A key or value of the configuration is wrong."""


class TrustError(WsiMilError):
    """A file names code that the user has not said to trust."""


class SlideError(WsiMilError):
    """A slide cannot be opened, read or measured."""


class ScaleError(SlideError):
    """A slide opens, but does not say its µm per pixel."""


class DataError(WsiMilError):
    """Labels, annotations or splits do not fit together."""


class StoreError(WsiMilError):
    """Something on disk is incomplete, damaged, or made by another version or specification."""


class EncoderError(WsiMilError):
    """An encoder cannot be built or its weights cannot be had."""


class ModelError(WsiMilError):
    """A trained model does not fit what it is asked to score."""


class ExecutionError(WsiMilError):
    """A worker was lost, or cannot be had."""


class MachineError(WsiMilError):
    """The machine, and not a slide, is at fault: a disk that is full or cannot be written to, a lost device.
    The next slides will fail as well."""


def one_line(text: str, longest: int = 2000) -> str:
    """Return a message in one line: names from files may hold line breaks, escape sequences of a terminal, or
    megabytes. Of a longer text the middle is left out, since its end says what to do.

    >>> one_line("no slide 'a\\nb\\x1b[2J'"), one_line("from here to there: go", longest=15)
    ("no slide 'a b\\\\x1b[2J'", 'from  ... e: go')
    """
    line = printable(" ".join(text.split()))
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


def printable(text: str) -> str:
    r"""Return `text` with escapes in place of characters that a terminal would act upon.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def nearest(name: str, known: list[str], count: int = 3) -> str:
    """Return the `count` known names most like `name`, quoted, for an error message.

    >>> nearest("focusmil", ["focus_mil", "mi_net", "abmil_gated"], count=1)
    "'focus_mil'"
    """
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=count, cutoff=0.3) or sorted(known)[:count]
    return ", ".join(repr(match) for match in close)
