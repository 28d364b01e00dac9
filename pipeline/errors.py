"""The one error that a user's mistake raises."""


class PipelineError(Exception):
    """A fault in the input, the settings or the machine, told in one line.

    The line names the case or key, the file, what was found, what was expected and what to do.
    The command line prints it without a traceback and exits with 1.
    """
