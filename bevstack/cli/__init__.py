"""The `bevstack` command. Each subcommand is one module that is imported only when it is called."""
