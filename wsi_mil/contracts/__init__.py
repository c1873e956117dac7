"""The frozen records that stages pass to each other. Each is validated when it is made."""
