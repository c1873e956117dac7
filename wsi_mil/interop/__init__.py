"""Files of other tools, and object stores: features in and out, runs pushed and pulled."""
