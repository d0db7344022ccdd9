"""What `trainer.precision=auto` and `trainer.channels_last=null` come to on this machine."""

import torch
from omegaconf import DictConfig, open_dict


def uses_gpu(accelerator: str) -> bool:
    """Whether training with this `trainer.accelerator` runs on a GPU.

    Raises:
        ValueError: gpu is asked for, and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("trainer.accelerator=gpu, but torch sees no GPU: run `bevstack doctor`")
    return accelerator != "cpu" and torch.cuda.is_available()


def has_fast_bf16(gpu: bool) -> bool:
    """Whether mixed precision with bfloat16 is the faster choice: a GPU that has it, a CPU with AMX tiles."""
    if gpu:
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def resolved_precision(config: DictConfig) -> DictConfig:
    """A copy of the configuration with `auto` replaced, so that the run folder says what was used.

    Raises:
        ValueError: the precision does not exist on this device.
    """
    config = config.copy()
    trainer = config.trainer
    gpu = uses_gpu(str(trainer.accelerator))
    if str(trainer.precision) == "16" and not gpu:
        raise ValueError("trainer.precision=16 needs a GPU: use bf16 or 32 on CPU")
    if str(trainer.precision) == "auto":
        trainer.precision = "bf16" if has_fast_bf16(gpu) else "32"
    if trainer.get("channels_last") is None:
        with open_dict(trainer):  # configurations stored by earlier versions lack the key
            trainer.channels_last = str(trainer.precision) == "bf16" and not gpu
    return config
