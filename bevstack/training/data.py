"""The training frames as one endless-looking stream of micro-batches that starts wherever a checkpoint stopped."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule

from bevstack.data.loader import FrameLoader
from bevstack.training.module import Sample


class SampleStream:
    """Micro-batch after micro-batch through as many epochs as a run needs.

    For the trainer the whole run is a single pass, so that there is one kind of interruption only: between two steps.

    Args:
        loader: one epoch of this process; its order and augmentations follow from seed and epoch alone.
        first: micro-batches of this process that a resumed run has already seen.
        total: micro-batches of the whole run, those included.

    Raises:
        ValueError: the loader has no batch at all.
    """

    def __init__(self, loader: FrameLoader, *, first: int, total: int) -> None:
        if len(loader) == 0:
            raise ValueError("there are fewer training frames than one batch: lower trainer.batch_size or add data")
        self._loader, self._first, self._total = loader, first, total

    def __len__(self) -> int:
        """Micro-batches of the whole run: the trainer counts those before a resume as done."""
        return self._total

    def __iter__(self) -> Iterator[Sample]:
        """The micro-batches from `first` on.

        Raises:
            ValueError: frames without annotations.
        """
        position = self._first
        while position < self._total:
            epoch, batches_done = divmod(position, len(self._loader))
            self._loader.set_position(epoch, batches_done)
            for batch, labels in self._loader:
                if labels is None:
                    raise ValueError(f"frame {batch.tokens[0]} has no annotations: choose a split that has them")
                yield batch, labels
                position += 1
                if position == self._total:
                    return


class TrainingData(LightningDataModule):
    """Training stream and validation batches.

    Args:
        train: micro-batches of the whole run.
        val: validation batches; None for no validation.
    """

    def __init__(self, train: SampleStream, val: FrameLoader | None) -> None:
        super().__init__()
        self._train, self._val = train, val

    def train_dataloader(self) -> SampleStream:
        """Micro-batches of the whole run."""
        return self._train

    def val_dataloader(self) -> FrameLoader | list:
        """Validation batches."""
        return [] if self._val is None else self._val

    def transfer_batch_to_device(self, sample: Sample, device: torch.device, dataloader_idx: int) -> Sample:
        """Both halves of a sample."""
        batch, labels = sample
        return batch.to(device, non_blocking=True), labels.to(device, non_blocking=True)
