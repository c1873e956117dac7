"""Sites: how far features, labels and predictions depend on the centre that a slide comes from."""
