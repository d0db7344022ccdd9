"""Results as people look at them: the HTML report and its figures."""
