"""One module for each method. Each assigns its class to `AGGREGATOR`; the module's name is the name of the
method."""
