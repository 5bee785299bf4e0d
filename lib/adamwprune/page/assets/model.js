// The records' values as objects, and what of them is looked at now.

/** Take the records' values, and what is known of runs in hand, by their number. What is read
 * again are the same runs in the same groups: their objects stay, and whatever refers to them.
 */
report.read = (data, inHand = {}) => {
  report.data = data;
  const at = (columns, run) => {
    const found = {};
    for (const [name, column] of Object.entries(columns)) {
      const place = column.runs[run];
      found[name] = place < 0 ? null : column.texts[place];
    }
    return found;
  };
  const taken = (known, values) => values.map((value, number) =>
    Object.assign(known?.[number] ?? {}, value, { number }));
  report.groups = taken(report.groups, data.groups);
  report.runs = taken(report.runs, data.runs);
  for (const run of report.runs) {
    run.now = inHand[run.number] ?? null;
    if (!run.now) continue;
    // A record that counts goes on counting while its run is trained anew.
    if (run.status === "done") run.marks = [...run.marks, run.now.status];
    else run.status = run.now.status;
  }
  const parts = data.settings.map((each) => each.title.split(", "));
  const common = new Set(parts[0]?.filter((part) => parts.every((own) => own.includes(part))));
  for (const [number, own] of parts.entries()) {
    // What all have in common stands above the page; a setting is told by the rest.
    const apart = own.filter((part) => !common.has(part));
    data.settings[number].name = apart.join(", ") || data.settings[number].title;
  }
  for (const group of report.groups) {
    group.setting = group.settings.map((each) => data.settings[each].name).join("; ");
    for (const number of group.runs) {
      const run = report.runs[number];
      run.group = group;
      run.label = `${group.label}, seed ${run.seed}`;
      run.state = [run.status, ...run.marks].join(", ");
    }
    group.state = standing(group);
    // To be found by a word of any of its parts.
    group.words = [
      group.label, group.criterion, group.setting, group.state, axes(group),
      ...group.runs.map((each) => `s${report.runs[each].seed} ${report.runs[each].id}`),
    ].join(" ").toLowerCase();
  }
  for (const run of report.runs) {
    const { label, criterion, setting } = run.group;
    run.words = `${label} ${criterion} ${setting} ${axes(run.group)} ${run.state} s${run.seed} ${run.id}`
      .toLowerCase();
  }

  /** The records' word on a group, or, while some of its runs are in hand, how many are where. */
  function standing(group) {
    const runs = group.runs.map((each) => report.runs[each]);
    if (!runs.some((run) => run.now)) return group.status_text;
    return [...report.count(runs)].filter(([name, count]) => name !== "done" ||
      count === runs.length)
      .map(([name, count]) => (count === runs.length ? name : `${count} ${name}`)).join(", ");
  }

  function axes(group) {
    return data.axes.map(({ name, heading }) => `${heading} ${group.axes[name] ?? ""}`).join(" ");
  }

  report.spec = (run) => at(data.spec, run.number);
  report.origin = (run) => at(data.origin, run.number);
  report.grouped = report.groups.some((group) => group.runs.length > 1);
};

/** How many runs have each status, in the order of the first ones. */
report.count = (runs) => {
  const counts = new Map();
  for (const { status } of runs) counts.set(status, (counts.get(status) ?? 0) + 1);
  return counts;
};

// What is looked at: filters, what the chart shows, and what is highlighted in both.
report.view = {
  words: [],
  facets: {}, // of a run: name -> value; a name without a value is not asked for
  hidden: new Set(), // numbers of runs that are not in the chart
  hot: [], // numbers of highlighted runs
  apart: false, // whether every seed has a row of its own
  open: new Set(), // numbers of groups whose runs are shown
};

report.facets = [
  ["setting", "Setting", (run) => run.group.setting],
  ["optimizer", "Optimizer", (run) => run.group.optimizer],
  ["method", "Method", (run) => run.group.kind],
  ["target", "Target", (run) => run.group.target || "dense"],
  ["status", "Status", (run) => run.state],
];

/** Each option in which the runs differ besides is a filter, too. */
report.addFacets = () => report.facets.splice(-1, 0, ...report.data.axes.map(
  ({ name, heading }) => [name, heading, (run) => run.group.axes[name] || "none"]));

/** The runs that the filters leave. */
report.matching = () => {
  const { words, facets } = report.view;
  const asked = report.facets.filter(([name]) => facets[name]);
  return report.runs.filter(
    (run) =>
      words.every((word) => run.words.includes(word)) &&
      asked.every(([name, , value]) => value(run) === facets[name]),
  );
};

// Whoever shows something is told what changed: "filter", "chart" or "hot".
report.listeners = { filter: [], chart: [], hot: [] };
report.on = (what, act) => report.listeners[what].push(act);
report.tell = (what) => report.listeners[what].forEach((act) => act());

/** Highlight these runs everywhere; none to end it. */
report.highlight = (numbers) => {
  const before = report.view.hot;
  const same = before.length === numbers.length && numbers.every((n, i) => n === before[i]);
  if (same) return;
  report.view.hot = numbers;
  report.tell("hot");
};

/** Put runs into the chart, or take them out. */
report.show = (numbers, shown) => {
  for (const number of numbers) {
    if (shown) report.view.hidden.delete(number);
    else report.view.hidden.add(number);
  }
  report.tell("chart");
};
