"""Lightning, by its own loop and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

lightning = pytest.importorskip("lightning")

from adamwprune.optimizers import AdamWPrune  # noqa: E402
from adamwprune.pruning import Movement, Pruner, Schedule, State  # noqa: E402

SCHEDULE = Schedule(target=0.5, warmup=2, interval=2, ramp_end=9)
pytestmark = [
    pytest.mark.slow,  # the packages take seconds to import
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Module(lightning.LightningModule):
    """A small classifier; the pruner is attached where the optimizer is made."""

    def __init__(self, method, by_hand: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
        self.method = method
        self.automatic_optimization = not by_hand
        self.by_hand = by_hand

    def configure_optimizers(self):
        optimizer = AdamWPrune(self.parameters(), 1e-2)
        self.pruner = Pruner(self, self.method(), SCHEDULE).attach(optimizer)
        return optimizer

    def training_step(self, batch, index):
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.net(inputs), labels)
        if self.by_hand:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss


def fit(folder, method, by_hand, epochs, resume=None):
    """Of six steps each: Lightning resumes at the beginning of an epoch."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(48, 16, generator=generator)
    labels = torch.randint(0, 4, (48,), generator=generator)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, labels), batch_size=8
    )
    module = Module(method, by_hand)
    trainer = lightning.Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        gradient_clip_val=None if by_hand else 1.0,
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=resume)
    if epochs == 1:
        trainer.save_checkpoint(folder / "at.ckpt")
    return module


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("method", [State, Movement])
def test_lightning_prunes_and_resumes_to_the_bit(tmp_path, method, by_hand):
    whole = fit(tmp_path, method, by_hand, 2)
    whole.pruner.verify()
    assert whole.pruner.steps == 12
    assert whole.pruner.k == 120
    fit(tmp_path, method, by_hand, 1)
    resumed = fit(tmp_path, method, by_hand, 2, tmp_path / "at.ckpt")
    resumed.pruner.verify()
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
