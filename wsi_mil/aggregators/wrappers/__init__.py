"""One module for each wrapper of attention methods. Each assigns its class to `WRAPPER`, such as
`guided(abmil)`."""
