// The configurations of two runs: the symbols that differ, or all of them.

report.compare = (() => {
  const { el, $ } = report;

  const noted = (run) => run.label + (run.state === "done" ? "" : ` (${run.state})`);

  function options() {
    const byOptimizer = new Map();
    for (const run of report.runs) {
      const { optimizer } = run.group;
      if (!byOptimizer.has(optimizer)) byOptimizer.set(optimizer, []);
      byOptimizer.get(optimizer).push(el("option", { value: run.number }, noted(run)));
    }
    return [...byOptimizer].map(([name, own]) => el("optgroup", { label: name }, ...own));
  }

  function show() {
    const first = report.runs[$("first").value];
    const second = report.runs[$("second").value];
    if (!first || !second) return;
    const all = $("all-symbols").checked;
    const parts = [
      ["Configuration", report.spec(first), report.spec(second)],
      ["Where it comes from", place(first), place(second)],
    ];
    const bodies = parts.map(([title, one, other]) => {
      const names = Object.keys(one).filter((name) => one[name] !== null || other[name] !== null);
      const differing = names.filter((name) => one[name] !== other[name]);
      const rows = (all ? names : differing).map((name) => row(name, one[name], other[name]));
      const told = `${title}: ${differing.length} of ${names.length} differ`;
      const head = el("tr", {}, el("th", { colspan: 3, scope: "rowgroup", class: "part" }, told));
      return { body: el("tbody", {}, head, ...rows), differing };
    });
    $("diff").replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "symbol"),
        el("th", { scope: "col" }, first.label), el("th", { scope: "col" }, second.label))),
      ...bodies.map((each) => each.body),
    );
    const count = bodies[0].differing.length;
    $("difference").textContent = first === second ? "This is one run twice." :
      `${report.plural(count, "symbol")} ${count === 1 ? "differs" : "differ"}${
        count ? `: ${bodies[0].differing.join(", ")}` : ""}.`;
  }

  /** Where a run comes from, without what differs between any two runs. */
  function place(run) {
    const { started, ended, command, ...rest } = report.origin(run);
    return rest;
  }

  function row(name, one, other) {
    const differs = one !== other;
    const cell = (value) => el("td", {}, value === null ? el("span", { class: "absent" }, "(none)") :
      differs ? el("mark", {}, value) : value);
    return el("tr", { class: differs ? "differs" : "equal" }, el("th", { scope: "row" }, name),
      cell(one), cell(other));
  }

  function choose(which, run) {
    $(which).value = run.number;
    show();
    $("compare").scrollIntoView({ block: "start" });
    $(which).focus();
  }

  function start() {
    $("first").append(...options());
    $("second").append(...options());
    $("first").value = 0;
    $("second").value = Math.min(1, report.runs.length - 1);
    for (const id of ["first", "second", "all-symbols"]) $(id).addEventListener("change", show);
    $("swap").addEventListener("click", () => {
      [$("first").value, $("second").value] = [$("second").value, $("first").value];
      show();
    });
    show();
  }

  /** What is known of the runs may have changed. */
  function refresh(isNew) {
    for (const id of ["first", "second"]) {
      for (const option of $(id).options) {
        const text = noted(report.runs[option.value]);
        if (option.textContent !== text) option.textContent = text;
      }
    }
    if (isNew) show();
  }

  return { start, choose, refresh };
})();
