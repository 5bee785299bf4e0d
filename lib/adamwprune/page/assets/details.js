// One run in a dialog: its results, where it comes from, how to repeat it, its configuration.

report.details = (run) => {
  const { el, $ } = report;
  const origin = report.origin(run);
  const body = $("run-body");
  $("run-title").textContent = run.label;
  report.shown = { run, as: report.known(run) };
  body.replaceChildren(
    el("p", { class: "id" }, run.id),
    ...standing(),
    ...repeat(),
    el("h3", {}, "Result"), list(results()),
    ...sample(),
    el("h3", {}, "Where it comes from"), list(provenance()),
    el("h3", {}, "Configuration"), list(Object.entries(report.spec(run))),
    el("div", { class: "bar" },
      report.button("First of two to compare", () => choose("first")),
      report.button("Second of two to compare", () => choose("second"))),
  );
  const dialog = $("run");
  if (!dialog.open) {
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  function standing() {
    const told = [el("p", {}, el("strong", {}, run.state),
      run.now ? `: ${report.progress(run)}` : run.why ? `: ${run.why}` : "")];
    if (run.status === "stale") {
      told.push(el("p", {}, "It counts in no mean and in no verdict; make trains it again."));
    }
    if (run.error) told.push(el("pre", { tabindex: 0, "aria-label": "Error" }, run.error));
    return told;
  }

  function repeat() {
    const { commands } = report.data;
    const lines = [];
    if (run.status === "failed") lines.push(["Train it again, with all that failed", commands.retry]);
    if (["missing", "stale", "interrupted"].includes(run.status)) {
      lines.push(["Train what is missing", commands.make]);
    }
    if (origin.command) lines.push(["Run it by hand", origin.command]);
    if (run.status === "done") {
      lines.push(["Repeat it and compare with its record",
        commands.reproduce.replace("RUN_ID", run.id)]);
    }
    return lines.flatMap(([what, line]) => [el("p", { class: "what" }, what), report.command(line)]);
  }

  function results() {
    const size = (value) => `${report.kib(value)} KiB (${report.thousands(value)} bytes)`;
    return [
      ...run.results,
      ["zeros", none(run.zeros) ? "" :
        `${report.thousands(run.zeros)} of ${report.thousands(run.prunable)} prunable weights`],
      ["all tensors", none(run.total) ? "" : size(run.total)],
      ...Object.entries(run.owners).map(([name, bytes]) => [`  ${name}`, size(bytes)]),
      ["wall clock", none(run.seconds) ? "" : `${report.fixed(run.seconds, 1)} s`],
      ["weights, SHA-256", run.weights],
    ];
  }

  function sample() {
    const text = report.data.samples[run.number];
    return text ? [el("h3", {}, "A sample of its text"), report.sample(text)] : [];
  }

  function provenance() {
    const names = { diff: "uncommitted changes", dirty: "changed since the commit",
      device_name: "processor", code: "code digest", os: "system" };
    return Object.entries(origin).filter(([name]) => name !== "command")
      .map(([name, value]) => [names[name] ?? name, value]);
  }

  function list(pairs) {
    const there = pairs.filter(([, value]) => !none(value));
    if (!there.length) {
      const told = run.status === "failed" ? "None: the run failed." : "There is no record.";
      return el("p", { class: "note" }, told);
    }
    return el("dl", {}, ...there.flatMap(([name, value]) =>
      [el("dt", {}, name.trim()), el("dd", {}, value)]));
  }

  function none(value) {
    return value === null || value === undefined || value === "";
  }

  function choose(which) {
    dialog.close();
    report.compare.choose(which, run);
  }
};

/** All that is known of a run, to tell whether it has changed. */
report.known = (run) => JSON.stringify({ ...run, group: null });

/** What is known of the run in the dialog may have changed. */
report.refreshDetails = () => {
  const dialog = report.$("run");
  if (!dialog.open || report.known(report.shown.run) === report.shown.as) return;
  const buttons = () => [...dialog.querySelectorAll("button")];
  const at = buttons().indexOf(document.activeElement);
  report.details(report.shown.run);
  if (at >= 0) buttons()[at]?.focus({ preventScroll: true });
};

report.listenDetails = () => {
  const dialog = report.$("run");
  report.$("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
};
