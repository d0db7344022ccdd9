"""Features of several sources in, one set of BEV features on one grid out."""
