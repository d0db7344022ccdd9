"""Lightning training: module, data module, callbacks, checkpoints."""
