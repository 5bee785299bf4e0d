"""Lightning, by its own loop and by hand."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from adamwprune.pruning import Movement, State

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("lightning"), reason="no lightning"),
    pytest.mark.slow,  # the package takes seconds to import: where it is used, not for each process
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def fit(folder, method, by_hand, epochs, resume=None):
    """Of six steps each: Lightning resumes at the beginning of an epoch."""
    import lightning

    from tests.integrations.classifier import Classifier

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(48, 16, generator=generator)
    labels = torch.randint(0, 4, (48,), generator=generator)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, labels), batch_size=8
    )
    module = Classifier(method, by_hand)
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
