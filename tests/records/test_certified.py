"""Proofs that two codes give the same bits: read off two records, and off nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adamwprune.base.errors import UserError
from adamwprune.plan.spec import RunSpec
from adamwprune.records import staleness
from adamwprune.records.certified import Certificates, Proof, path_of
from adamwprune.records.code import Code
from adamwprune.records.record import RunResult
from tests.support.records import elsewhere, expand, synthetic

SPEC = expand("quickstart", SEED="0")[0]
OLD, MIDDLE, NEW = (Code({"adamwprune.train.loop": each}) for each in "abc")
CUDA = {"device": "cuda:0", "device_name": "Imaginary 9000"}


def record(code: Code, spec: RunSpec = SPEC, **environment: object) -> RunResult:
    return elsewhere(replace(synthetic(spec), weights="1" * 64, code=code.to_json()), **environment)


def proof(one: Code = OLD, other: Code = NEW, **environment: object) -> Proof:
    return Proof.of(record(one, **environment), record(other, **environment))


def knowing(path, *proofs: Proof) -> Code:
    """Today's code, with these proofs at hand."""
    Certificates(path).write(proofs)
    return Code(NEW.modules, Certificates(path))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "certified.jsonl"


def test_a_record_of_a_code_with_equal_bits_is_fresh(file):
    today = knowing(file, proof())
    assert staleness.changes(record(OLD), Code(NEW.modules)) == "changed since: train.loop"
    assert staleness.changes(record(OLD), today) == ""
    assert staleness.changes(record(MIDDLE), today) == "changed since: train.loop"
    assert staleness.proof(record(OLD), today) == (
        "other code made it, which gives the same bits: make certify proved it"
    )
    assert staleness.proof(record(NEW), today) == staleness.proof(record(MIDDLE), today) == ""


def test_proofs_make_a_chain_on_one_kind_of_device(file):
    chain = (proof(OLD, MIDDLE), proof(MIDDLE, NEW))
    assert staleness.changes(record(OLD), knowing(file, *chain)) == ""
    mixed = (proof(OLD, MIDDLE, **CUDA), proof(MIDDLE, NEW))
    assert staleness.changes(record(OLD), knowing(file, *mixed)) != ""


def test_a_proof_on_another_kind_of_device_is_one_and_is_told(file):
    today = knowing(file, proof())
    assert staleness.changes(record(OLD, **CUDA), today) == ""
    assert "another kind of device (cpu, the record: cuda)" in staleness.proof(
        record(OLD, **CUDA), today
    )
    both = knowing(file, proof(), proof(**CUDA))
    assert "another kind" not in staleness.proof(record(OLD, **CUDA), both)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"SEED": 7, "LR": 0.02, "EPOCHS": 100}, True),
        ({"MODEL": "other"}, False),
        ({"PRUNING_SCOPE": "layer"}, False),
        ({"VALIDATION_EXAMPLES": 500}, False),
        ({"TORCH_COMPILE": True}, False),
    ],
)
def test_a_proof_is_one_for_runs_that_go_the_same_way_through_the_code(changed, same, file):
    pruned = next(s for s in expand("memory-comparison") if "PRUNING_SCOPE" in s)
    other = RunSpec({**pruned.values, **changed})
    assert (path_of(pruned) == path_of(other)) is same
    today = knowing(file, Proof.of(record(OLD, pruned), record(NEW, pruned)))
    assert (staleness.changes(record(OLD, other), today) == "") is same


def edited(line: str, edit) -> str:
    plain = json.loads(line)
    edit(plain)
    return json.dumps(plain)


@pytest.mark.parametrize(
    "edit",
    [
        lambda plain: plain["after"]["code"].update(digest="0" * 16),
        lambda plain: plain["after"].update(weights="2" * 64),
        lambda plain: plain["before"]["spec"].update(SEED=3),
        lambda plain: plain.update(seal="0" * 64),
        lambda plain: plain.pop("seal"),
        lambda plain: plain.update(more=1),
    ],
)
def test_an_edited_line_proves_nothing(edit, file):
    file.write_text(proof().line() + "\n" + edited(proof(MIDDLE).line(), edit) + "\n")
    certificates = Certificates(file)
    first, second = certificates.lines()
    assert isinstance(first, Proof)
    assert isinstance(second, UserError)
    assert str(second).startswith(f"{file}:2: ")
    assert [each.codes for each in certificates.proofs] == [(OLD.digest, NEW.digest)]


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (replace(record(NEW), weights="2" * 64), "its records differ"),
        (replace(record(NEW), weights=""), "its records differ"),
        (replace(record(NEW), final={**record(NEW).final, "test_accuracy": 0.5}), "differ"),
        (record(NEW, RunSpec({**SPEC.values, "SEED": 3})), "two runs"),
        (record(NEW, dirty=True), "no commit's"),
        (record(NEW, commit=None), "no commit's"),
        (record(NEW, members={"commit": "1"}), "no commit's"),
        (record(NEW, threads=3), "differ in threads"),
        (record(NEW, torch="3"), "differ in torch"),
        (replace(record(NEW), code={"digest": "0" * 16, "modules": {"x": "y"}}), "the digest"),
        (replace(record(NEW), status="failed"), "its records differ"),
    ],
)
def test_two_records_that_differ_prove_nothing_even_when_sealed(after, problem, file):
    found = Proof.of(record(OLD), after)
    assert problem in found.problem()
    assert staleness.changes(record(OLD), knowing(file, found)) == "changed since: train.loop"


def test_a_digest_of_former_times_counted_names(file):
    """As records before modules went by their content hold it."""
    import hashlib

    modules = {"adamwprune.b": "22", "adamwprune.a": "11"}
    text = b"adamwprune.a 11\nadamwprune.b 22\n"
    digest = hashlib.sha256(text).hexdigest()[:16]
    former = replace(record(OLD), code={"digest": digest, "modules": modules})
    today = knowing(file, Proof.of(former, record(NEW)))
    assert staleness.changes(former, today) == ""


def test_a_file_that_is_not_there_has_no_proofs(tmp_path):
    assert Certificates(None).proofs == Certificates(tmp_path / "none").proofs == []
