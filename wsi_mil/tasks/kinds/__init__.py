"""One module for each task. Each assigns its class to `TASK`; the module's name is the `task.kind` of
users."""
