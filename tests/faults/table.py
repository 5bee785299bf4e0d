"""Faults that systems like this one have had: each is planted, and tests must notice it.

``python scripts/check_faults.py`` (``make check-faults``) plants them in a copy of the tree.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A change of one file, and what must fail by it."""

    name: str
    path: str  # in the tree
    old: str  # there exactly once
    new: str
    tests: str  # words for pytest: files or node ids, and -k


LIB = "lib/adamwprune"
PRUNING = "tests/pruning/test_pruning.py"
SPAM = "tests/optimizers/test_spam.py"
RESUME = "tests/run/test_resume.py"

IN_PRUNING = [
    Fault(
        "the cubic ramp is p³, the reverse of 1 - (1 - p)³",
        f"{LIB}/pruning/schedule.py",
        "else 1 - (1 - progress) ** 3",
        "else progress**3",
        f"{PRUNING} -k schedule",
    ),
    Fault(
        "k is rounded down",
        f"{LIB}/base/sparsity.py",
        "_decimal(sparsity) * numel + Fraction(1, 2))",
        "_decimal(sparsity) * numel)",
        f"{PRUNING} -k half_up",
    ),
    Fault(
        "k is rounded in binary",
        f"{LIB}/base/sparsity.py",
        "Fraction(repr(float(number)))",
        "Fraction(float(number))",
        f"{PRUNING} -k half_up",
    ),
    Fault(
        "a warm-up past the ramp's end never prunes",
        f"{LIB}/pruning/schedule.py",
        "if not 0 <= self.warmup < self.ramp_end:",
        "if self.warmup < 0:",
        f"{PRUNING} -k contradictory",
    ),
    Fault(
        "among equal scores not the first go",
        f"{LIB}/pruning/select/selection.py",
        "places = ties.cumsum(0).add_(self._seen)",
        "places = ties.flip(0).cumsum(0).flip(0).add_(self._seen)",
        "tests/pruning/test_selection.py -k among_equals",
    ),
    Fault(
        "stale momentum stays with a pruned weight",
        f"{LIB}/pruning/pruned.py",
        "return [weight, *same]",
        "return [weight, *same[:0]]",
        f"{PRUNING} -k exactly_k",
    ),
    Fault(
        "gradients of pruned weights are not masked",
        f"{LIB}/pruning/pruner.py",
        "            self.masks.zero(name, gradient, self.states(name))\n",
        "            pass\n",
        f"{PRUNING} -k exactly_k",
    ),
    Fault(
        "a revived weight is no violation of the contract",
        f"{LIB}/pruning/contract.py",
        "        if each.revived:\n",
        "        if False:\n",
        f"{PRUNING} -k 'revived or in_place_of'",
    ),
    Fault(
        "moments of pruned weights are no violation",
        f"{LIB}/pruning/contract.py",
        "        if each.stale:\n",
        "        if False:\n",
        f"{PRUNING} -k 'stale or revived'",
    ),
    Fault(
        "a mask is a buffer of the module, in its state_dict",
        f"{LIB}/pruning/pruner.py",
        "        self.schedule = schedule\n",
        "        self.schedule = schedule\n"
        '        next(model.children()).register_buffer("mask", torch.ones(1))\n',
        f"{PRUNING} -k plain_module",
    ),
    Fault(
        "movement's scores go without the learning rate",
        f"{LIB}/pruning/methods/movement.py",
        "addcmul_(grad, full, value=-rate)",
        "addcmul_(grad, full, value=-1)",
        f"{PRUNING} -k learning_rate",
    ),
    Fault(
        "movement scores by the masked weight",
        f"{LIB}/pruning/pruner.py",
        "self.score.observe(weight, full, gradient, rates[self._groups[name]])",
        "self.score.observe(weight, weight, gradient, rates[self._groups[name]])",
        f"{PRUNING} -k straight_through",
    ),
    Fault(
        "packed states of pruned weights are left where they grow again",
        f"{LIB}/pruning/storage.py",
        "value.masked_fill_(mask, 0)  # it may",
        "pass  # it may",
        "tests/pruning/test_packed.py -k every_method",
    ),
    Fault(
        "the rest of a packed vector is not that of the weight",
        f"{LIB}/pruning/live.py",
        "gap = (rest - live) % lanes",
        "gap = 0",
        "tests/pruning/test_packed.py -k gathering",
    ),
    Fault(
        "a released gradient is not freed",
        f"{LIB}/optimizers/_released.py",
        "        param.grad = None\n",
        "",
        "tests/optimizers/test_released.py -k one_gradient",
    ),
    Fault(
        "a live weight at zero misses its gradient",
        f"{LIB}/pruning/storage.py",
        "        zero_where_set(values, self.part(name, part, states))\n",
        "        zero_where_zero(values, part.of(self.weights[name]).abs())\n",
        "tests/pruning/test_zeros.py -k live_weight",
    ),
    Fault(
        "movement forgets the kept weights of a layer without a gradient",
        f"{LIB}/pruning/pruner.py",
        "            elif name in self._open:\n",
        "            else:\n                self.full[name].copy_(weight)\n"
        "            if name in self._open:\n",
        "tests/pruning/test_zeros.py -k layers_without",
    ),
    Fault(
        "an overflow under a GradScaler counts as a step of the pruner",
        f"{LIB}/pruning/attachment.py",
        "        if overflow is not None and overflow.item():\n            return False\n",
        "",
        "tests/pruning/test_conformance.py -k Scaler",
    ),
    Fault(
        "an embedding is pruned through its tied head",
        f"{LIB}/pruning/prunable.py",
        '            self._leave_out(tied, "tied to an embedding")\n',
        "",
        "tests/pruning/test_prunable.py -k multiply",
    ),
    Fault(
        "masks are updated just after the moments were reset",
        f"{LIB}/pruning/pruner.py",
        "optimizer.steps_since_reset < SETTLING",
        "optimizer.steps_since_reset < 0",
        f"{PRUNING} -k settle",
    ),
    Fault(
        "packed masks lose their last byte",
        f"{LIB}/pruning/storage.py",
        "size = -(-weight.numel() // 8)",
        "size = weight.numel() // 8",
        f"tests/pruning/test_storage.py {PRUNING} -k 'bits or byte'",
    ),
]
IN_OPTIMIZERS = [
    Fault(
        "SPAM's warm-up multiplies group['lr'] in place",
        f"{LIB}/optimizers/_adam.py",
        'rate = float(group["lr"]) * scale\n',
        'group["lr"] *= scale\n            rate = group["lr"]\n',
        SPAM,
    ),
    Fault(
        "the step counter advances twice a step",
        f"{LIB}/optimizers/_adam.py",
        "        self.steps += 1\n        for group, params in",
        "        self.steps += 2\n        for group, params in",
        SPAM,
    ),
    Fault(
        "a reset leaves AMSGrad's maximum",
        f"{LIB}/optimizers/_adam.py",
        "for p in params for name in MOMENTS if name in self.state[p]]\n        steps",
        "for p in params for name in MOMENTS[:2] if name in self.state[p]]\n        steps",
        SPAM,
    ),
    Fault(
        "the weight decay that is asked for is not applied",
        f"{LIB}/optimizers/_adam.py",
        "            weight_decay=decay,\n            eps",
        "            weight_decay=0.0,\n            eps",
        "tests/optimizers/test_optimizers.py",
    ),
    Fault(
        "a checkpoint of the optimizer forgets the window of norms",
        f"{LIB}/optimizers/_base.py",
        "if KEPT not in self.param_groups[0]:",
        "if self.kept:",
        "tests/optimizers/test_conformance.py -k adamwspam",
    ),
    Fault(
        "a fused kernel walks the memory of a state that is laid out in another way",
        f"{LIB}/optimizers/_layout.py",
        "if tensor.stride() == param.stride() or not is_dense(param):",
        "if tensor.shape == param.shape:",
        "tests/optimizers/test_layout.py -k another_layout",
    ),
    Fault(
        "a norm that overflows joins those that the next are compared with",
        f"{LIB}/optimizers/_spam.py",
        "is_finite = joining < math.inf",
        "is_finite = joining == joining",
        "tests/optimizers/test_spam_inputs.py",
    ),
    Fault(
        "SPAM resets one step later than its official code",
        f"{LIB}/optimizers/_spam.py",
        "return bool(self.interval) and step % self.interval == 0",
        "return bool(self.interval) and step > 1 and step % self.interval == 1",
        "tests/optimizers/test_spam_as_published.py",
    ),
]
IN_RANKS = [
    Fault(
        "ranks are not compared",
        f"{LIB}/pruning/ranks.py",
        "            if not torch.equal(each, theirs[0]):",
        "            if False:",
        "tests/pruning/test_ranks.py -k say_so",
    ),
    Fault(
        "what layers read is not added up over ranks",
        f"{LIB}/pruning/ranks.py",
        "        dist.all_reduce(seen, group=self.group)\n",
        "",
        "tests/pruning/test_ranks.py -k run_of_one",
    ),
    Fault(
        "equal scores of a layer are chosen on each rank from its first row on",
        f"{LIB}/pruning/select/selection.py",
        "        self._seen = self._before.get(name, self._seen)\n",
        "",
        "tests/pruning/test_shards.py -k first_rows",
    ),
    Fault(
        "a rank's threshold is that of its own scores",
        f"{LIB}/pruning/select/radix.py",
        "    lower = summed(_histogram(each, prefix))\n",
        "    lower = _histogram(each, prefix)\n",
        "tests/pruning/test_shards.py -k whole_ones",
    ),
    Fault(
        "batch normalisation takes a rank's own mean",
        f"{LIB}/train/parallel.py",
        "        mean = _summed(input.sum(others), self.group) / count\n",
        "        mean = input.mean(others)\n",
        "tests/train/test_parallel.py -k normalisation",
    ),
    Fault(
        "shares of a batch count alike, whatever their sizes",
        f"{LIB}/train/loop.py",
        "                weight = self.ranks * len(mine) / len(picks)",
        "                weight = 1 / len(parts)",
        "tests/train/test_parallel.py -k rounding",
    ),
    Fault(
        "gradients are reduced in another order in a process's first step",
        f"{LIB}/train/parallel.py",
        "        whole(inputs).float().sum().backward()\n",
        "",
        "tests/train/test_parallel.py -k same_bits",
    ),
    Fault(
        "a released gradient holds its parameter for ever",
        f"{LIB}/optimizers/_released.py",
        "param.register_post_accumulate_grad_hook(step))",
        "param.register_post_accumulate_grad_hook(self._step))",
        "tests/optimizers/test_released.py -k nothing_is_left",
    ),
]
IN_RUNS = [
    Fault(
        "the test set is normalised by its own constants",
        f"{LIB}/datasets/_images.py",
        "        return (Batch(self.normalise(images), labels) for images, labels in parts)",
        "        test = (self.test_images, self.test_labels)\n"
        "        own = ImageData.of(test, test, self.classes, self.digest)\n"
        "        return (Batch(own.normalise(images), labels) for images, labels in parts)",
        "tests/datasets",
    ),
    Fault(
        "validation examples are trained on too",
        f"{LIB}/datasets/_images.py",
        "kept, held_out = order[examples:].sort().values,",
        "kept, held_out = order.sort().values,",
        "tests/datasets tests/train/test_loop.py -k validat",
    ),
    Fault(
        "batch statistics of the test set are used in evaluation",
        f"{LIB}/train/evaluation.py",
        "    model.eval()\n",
        "",
        "tests/train/test_loop.py -k running_statistics",
    ),
    Fault(
        "the best epoch is picked on the test set",
        f"{LIB}/train/loop.py",
        '"final": {name: self.history[-1][name] for name in parts},',
        '"final": {name: max(each[name] for each in self.history) for name in parts},',
        "tests/train/test_loop.py -k last_epoch",
    ),
    Fault(
        "a run goes on without the order of its data",
        f"{LIB}/train/loop.py",
        '        self.order.load_state_dict(state["order"])\n',
        "",
        f"{RESUME} -k 'killed_twice and dense-s0 or killed_twice and sgd-none'",
    ),
    Fault(
        "a run goes on without movement's scores",
        f"{LIB}/pruning/methods/movement.py",
        "for w, s in scores if s is not None",
        "for w, s in scores if False",
        f"{RESUME} -k 'killed_twice and movement'",
    ),
    Fault(
        "a damaged checkpoint is believed",
        f"{LIB}/run/checkpoint.py",
        "    if words != [hashlib.sha256(content).hexdigest().encode(), ",
        "    if not content and words != [",
        f"{RESUME} -k damaged",
    ),
    Fault(
        "a checkpoint of other code is gone on from",
        f"{LIB}/run/runner.py",
        'if found.get("code") != self.code.digest:',
        "if False:",
        f"{RESUME} -k something_else",
    ),
    Fault(
        "a record is published before the weights are there",
        f"{LIB}/run/runner.py",
        "        digest = weights.write(self.job.folder, state)\n",
        "        made = RunResult(self.job.spec.run_id, 'done', self.job.spec, **outcome)\n"
        "        store.publish(self.job.folder, made)\n"
        "        digest = weights.write(self.job.folder, state)\n",
        f"{RESUME} -k no_record_before",
    ),
]
IN_RECORDS = [
    Fault(
        "locks are ignored",
        f"{LIB}/records/locks.py",
        "            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            return\n",
        "            return\n",
        "tests/records/test_store.py -k second_scheduler",
    ),
    Fault(
        "a file is written in place: a reader finds half of it",
        f"{LIB}/base/files.py",
        'temporary = (work or path.parent) / f".{path.name}.{os.getpid()}.tmp"',
        "temporary = path",
        "tests/records/test_store.py tests/config/test_sources.py -k 'whole or half or replace'",
    ),
    Fault(
        "who takes a run over does not fence who had it",
        f"{LIB}/records/lease.py",
        "self.files.remove(leases / str(before) / WORK)",
        "pass",
        "tests/records/test_lease.py",
    ),
    Fault(
        "a lease is taken over while its holder is alive",
        f"{LIB}/records/lease.py",
        'return self.now() - since >= max(duration, float(self.me["duration"]))',
        "return True",
        "tests/records/test_lease.py",
    ),
    Fault(
        "an attempt that lost its lease writes as before",
        f"{LIB}/base/files.py",
        "work = _fences.get(path.parent)\n    temporary",
        "work = None\n    temporary",
        "tests/records/test_lease.py -k suspended",
    ),
    Fault(
        "files are opened through links",
        f"{LIB}/base/files.py",
        " | os.O_NOFOLLOW | os.O_NONBLOCK",
        " | os.O_NONBLOCK",
        "tests/run/test_directory.py",
    ),
    Fault(
        "a file is truncated before it is known to be ours",
        f"{LIB}/base/files.py",
        "(flags & ~os.O_TRUNC)",
        "flags",
        "tests/run/test_directory.py -k another_name",
    ),
    Fault(
        "a terminal gets what a record says",
        f"{LIB}/base/terminal.py",
        "        self.stream.write(clean(text))\n",
        "        self.stream.write(text)\n",
        "tests/base/test_terminal.py",
    ),
    Fault(
        "a run that cannot be read is missing",
        f"{LIB}/records/store.py",
        "        except FileNotFoundError:\n            return frozenset()\n",
        "        except OSError:\n            return frozenset()\n",
        "tests/records/test_state.py",
    ),
    Fault(
        "runs killed for memory are tried again all at once",
        f"{LIB}/scheduler/pool.py",
        "        return several or slot.device in self.packer.free\n",
        "        return slot.device in self.packer.free\n",
        "tests/scheduler/test_packing.py -k one_at_a_time",
    ),
    Fault(
        "threads spin as long as they wait where a run has all cores",
        f"{LIB}/base/subprocesses.py",
        '{"OMP_WAIT_POLICY": "passive", ',
        '{"OMP_WAIT_POLICY": "active", ',
        "tests/scheduler/test_devices.py -k sleep",
    ),
    Fault(
        "a record of other code is fresh",
        f"{LIB}/records/state.py",
        "why = outdated = changes(record, code)",
        'why = outdated = ""',
        "tests/records/test_state.py tests/experiment/test_experiment.py",
    ),
    Fault(
        "a failed run counts as done",
        f"{LIB}/records/state.py",
        "name = STALE if outdated else record.status",
        "name = STALE if outdated else DONE",
        "tests/records/test_state.py tests/experiment/test_experiment.py",
    ),
    Fault(
        "a new option changes every identity",
        f"{LIB}/plan/spec.py",
        "if name in values and values[name] == neutral:",
        "if False:",
        "tests/plan/test_identity.py",
    ),
]
IN_CONFIGURATION = [
    Fault(
        "a float out of its range is taken",
        f"{LIB}/config/options.py",
        "if interval is not None and number not in interval:",
        'if interval is not None and kind == "int" and number not in interval:',
        "tests/config/test_options.py",
    ),
    Fault(
        "a typo is ignored",
        f"{LIB}/config/strict.py",
        '        return each.refused(f"no such symbol{nearest(each.name, tree.setting_names)}")',
        "        return None",
        "tests/config/test_strict.py",
    ),
    Fault(
        "a dollar on make's command line stays doubled",
        f"{LIB}/config/makeflags.py",
        '.replace("$$", "$")',
        "",
        "tests/config/test_sources.py -k make",
    ),
    Fault(
        "make expands what a user typed, $(shell ...) included",
        "Makefile",
        "unexport $(foreach name,$(.VARIABLES),",
        "export $(foreach name,$(.VARIABLES),",
        "tests/test_security.py -k 'make or command_line or expanded'",
    ),
    Fault(
        "clean deletes results",
        "scripts/clean.py",
        '*(output / "results" / name for name in ("figures", "report.html"))',
        'output / "results"',
        "tests/config/test_commands.py -k clean",
    ),
]
IN_REPORTS = [
    Fault(
        "two seeds are enough for a verdict",
        f"{LIB}/report/statistics.py",
        "LEAST = 3 ",
        "LEAST = 2 ",
        "tests/report/test_statistics.py",
    ),
    Fault(
        "p-values are not corrected for the number of tests",
        f"{LIB}/report/statistics.py",
        "min(1.0, (len(p_values) - rank) * p_values[place])",
        "p_values[place]",
        "tests/report/test_statistics.py",
    ),
    Fault(
        "runs that differ in more than what is compared are ranked",
        f"{LIB}/report/statistics.py",
        "if both and not differing:",
        "if both:",
        "tests/report/test_statistics.py",
    ),
    Fault(
        "where lower is better, the higher mean wins",
        f"{LIB}/report/statistics.py",
        "sign = self.headline.sign if self.headline else 1",
        "sign = 1",
        "tests/report/test_statistics.py",
    ),
    Fault(
        "a missing run is drawn as 95%",
        f"{LIB}/report/groups.py",
        "        runs = [by_id[spec.run_id] for spec in own if spec.run_id in by_id]\n",
        '        made = {"status": "done", "final": {"test_accuracy": 0.95}, "history": []}\n'
        "        runs = [by_id.get(s.run_id) or RunResult(s.run_id, spec=s, **made)\n"
        "                for s in own]\n",
        "tests/report/test_groups.py",
    ),
    Fault(
        "a mean says nothing of its seeds",
        f"{LIB}/report/groups.py",
        "        return len(self.done)\n",
        "        return len(self.specs)\n",
        "tests/report/test_groups.py tests/report/test_tables.py",
    ),
]
IN_KERNELS = [
    Fault(
        "kernels lose the gradient of a window whose first pixel is the largest",
        f"{LIB}/models/_pooled_conv_cpu.py",
        "                to_a = where_less(a, largest, none, rest)\n",
        "                to_a = none\n",
        "tests/models/test_pooled_conv_cpu.py",
    ),
    Fault(
        "kernels forget what normalisation sends back through the mean",
        f"{LIB}/models/_pooled_conv_cpu.py",
        "constant = factor * into_shift - slope * rest\n",
        "constant = -slope * rest\n",
        "tests/models/test_pooled_conv_cpu.py",
    ),
]
FAULTS = [
    *IN_PRUNING,
    *IN_KERNELS,
    *IN_OPTIMIZERS,
    *IN_RANKS,
    *IN_RUNS,
    *IN_RECORDS,
    *IN_CONFIGURATION,
    *IN_REPORTS,
]
