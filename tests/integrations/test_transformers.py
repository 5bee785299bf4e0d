"""Transformers' Trainer on a GPT-2 of two small layers, without a download."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from adamwprune.optimizers import AdamWPrune
from adamwprune.pruning import Movement, Pruner, Schedule, State

MISSING = [name for name in ("transformers", "accelerate") if not importlib.util.find_spec(name)]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.slow,  # the packages take seconds to import: where they are used
]
SCHEDULE = Schedule(target=0.5, warmup=2, interval=2, ramp_end=9)
PRUNED = [
    f"transformer.h.{block}.{name}.weight"
    for block in range(2)
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
]


def gpt2() -> torch.nn.Module:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def data(number: int = 48) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 32, (number, 16), generator=generator)
    return [{"input_ids": row, "labels": row} for row in rows]


def trainer(folder, score, **settings):
    import transformers

    model = gpt2()
    optimizer = AdamWPrune(model.parameters(), 1e-3)
    pruner = Pruner(model, score, SCHEDULE).attach(optimizer)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=12, save_steps=6, per_device_train_batch_size=4,
        report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no", **settings,
    )  # fmt: skip
    made = transformers.Trainer(
        model=model, args=arguments, train_dataset=data(), optimizers=(optimizer, None)
    )
    return made, pruner


@pytest.mark.parametrize("method", [State, Movement])
@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2, "bf16": True}])
def test_a_trainer_prunes_and_resumes_to_the_bit(tmp_path, method, settings):
    made, pruner = trainer(tmp_path, method(), **settings)
    made.train()
    pruner.verify()
    assert list(pruner.weights) == PRUNED
    assert pruner.coverage.left_out["lm_head.weight"] == "tied to an embedding"
    assert pruner.k == pruner.numel // 2
    assert (made.model.transformer.wte.weight != 0).all()
    again, resumed = trainer(tmp_path, method(), **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    resumed.verify()
    assert resumed.updates == pruner.updates
    for name, weight in made.model.named_parameters():
        assert torch.equal(again.model.get_parameter(name), weight), name


def test_a_checkpoint_without_the_pruner_is_refused(tmp_path):
    made, pruner = trainer(tmp_path, State())
    pruner.detach()
    made.train()
    again, _ = trainer(tmp_path, State())
    with pytest.raises(ValueError, match="no state of this pruner: it was saved without one"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
