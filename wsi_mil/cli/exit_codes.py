"""Exit codes of `wsi-mil`; 0 means that everything was done."""

EXIT_USER_ERROR = 1
"""A mistake that the user can correct."""
EXIT_SOME_FAILED = 3
"""Finished, but some slides failed."""
EXIT_VERDICT = 4
"""An audit's verdict is not the required one."""
SIGNAL = 128
"""Ended by a signal: this and its number, so 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
