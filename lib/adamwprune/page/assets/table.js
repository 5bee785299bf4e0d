// The table of groups of seeds and of runs: sorted, filtered, walked through with the keyboard.

report.table = (() => {
  const { el, $ } = report;
  const several = (group) => group.runs.length > 1;
  const none = (value) => value === null || value === undefined || value === "";
  const rows = new Map(); // key -> row element, of entries that are in the document or were just now
  let order = []; // entries in the order in which they are shown
  let inDocument = null; // which of them are: a window of rows
  let sorting = null; // {column, up}
  const armed = new Set(); // keys of rows that Tab reaches: that one
  let current = null; // key of the row that the keyboard is at

  // An entry is what a row stands for: a group with its runs, or one run.
  const groupEntry = (group) => ({ key: `g${group.number}`, group, run: null, runs: group.runs });
  const runEntry = (run, level) =>
    ({ key: `r${run.number}`, group: run.group, run, runs: [run.number], level });
  const sortable = (text) => (text && !Number.isNaN(Number(text)) ? Number(text) : text);
  const value = (entry, name) => (entry.run ?? entry.group)[name];
  const isOpen = (entry) => !entry.run && report.view.open.has(entry.group.number);

  let columns = [];
  const names = () => columns.map((column) => column.name).join();
  const narrow = matchMedia("(max-width: 720px)");

  /** On a small screen what runs are judged by stands beside their names. */
  function makeColumns() {
    const all = everyColumn();
    if (!narrow.matches) return all;
    const short = shortNames();
    const named = { name: "optimizer", heading: short.heading, text: (e) => short.of.get(e.group) +
      (e.group.sign ? ` ${e.group.sign}` : "") };
    const rest = all.filter((column) => !["optimizer", "method", "target"].includes(column.name));
    const score = rest.filter((column) => column.name === "score");
    return [named, ...score, ...rest.filter((column) => column.name !== "score")];
  }

  /** Names of which a narrow column shows enough: what groups do not have in common comes first.
   * Of axes the values alone are shown, and the heading names them.
   */
  function shortNames() {
    const of = ({ optimizer, kind, target, axes }) => [optimizer, kind, target,
      ...report.data.axes.map(({ name }) => axes[name] || "none")];
    const all = report.groups.map(of);
    const telling = all[0].map((_, place) => new Set(all.map((own) => own[place])).size > 1);
    const parts = (own, told) => own.filter((part, place) => part && telling[place] === told);
    const names = all.map((own) => parts(own, true).join(", "));
    const apart = new Set(names).size === names.length && names.every(Boolean);
    const others = ["optimizer", "method", "target"].filter((_, place) => telling[place]);
    const headings = [...others, ...report.data.axes.map(({ heading }) => heading)];
    return { heading: apart && report.data.axes.length ? headings.join(", ") : "run",
      of: new Map(report.groups.map((group, at) => [group,
        apart ? [names[at], ...parts(all[at], false)].join(", ") : group.label])) };
  }

  const everyColumn = () => [
    { name: "optimizer", heading: "optimizer", text: (e) => e.group.optimizer },
    { name: "method", heading: "method", text: (e) => e.group.method + (
      e.group.sign ? ` ${e.group.sign}` : "") },
    report.groups.some((g) => g.criterion) &&
      { name: "criterion", heading: "criterion", text: (e) => e.group.criterion },
    { name: "target", heading: "target", number: true, sort: (e) => e.group.sparsity,
      text: (e) => e.group.target },
    ...report.data.axes.map(({ name, heading }) => ({ name: `axis-${name}`, heading, number: true,
      sort: (e) => sortable(e.group.axes[name]), text: (e) => e.group.axes[name] ?? "" })),
    report.data.settings.length > 1 &&
      { name: "setting", heading: "setting", text: (e) => e.group.setting },
    score(),
    report.groups.some((g) => g.interval) &&
      { name: "interval", heading: "95% of mean", number: true, unsorted: true,
        text: (e) => (e.run && several(e.group) ? "" : e.group.interval) },
    { name: "seed", heading: report.grouped ? "seeds" : "seed", number: true,
      sort: (e) => (e.run ? e.run.seed : e.group.runs.length), text: seeds },
    { name: "zeros", heading: "zeros", number: true, sort: (e) => value(e, "zeros"),
      text: (e) => report.thousands(value(e, "zeros")),
      title: (e) => (none(value(e, "zeros")) ? null :
        `of ${report.thousands(value(e, "prunable"))} prunable weights`) },
    { name: "total", heading: "total KiB", number: true, sort: (e) => value(e, "total"),
      text: (e) => report.kib(value(e, "total")), title: bytes("total"),
      about: "Bytes of all tensors after the last step, in KiB" },
    { name: "pruner", heading: "pruner KiB", number: true, sort: (e) => value(e, "pruner"),
      text: (e) => report.kib(value(e, "pruner")), title: bytes("pruner"),
      about: "Bytes that pruning itself keeps: scores, kept weights and masks, in KiB" },
    { name: "seconds", heading: "s/run", number: true, sort: (e) => value(e, "seconds"),
      text: (e) => report.fixed(value(e, "seconds"), 1),
      about: "Wall clock of a run, in seconds; no timing: other work may have shared the machine" },
    { name: "status", heading: "status", sort: (e) => value(e, "state"),
      text: (e) => value(e, "state") },
  ].filter(Boolean);

  /** What runs are judged by. Runs of different metrics stand apart, and each has its unit. */
  function score() {
    const { metrics } = report.data;
    const [only] = metrics.length === 1 ? metrics : [];
    const sign = (group) => (metrics[group.metric]?.better === "lower" ? -1 : 1);
    const worth = (e) => (none(value(e, "score")) ? null : sign(e.group) * value(e, "score"));
    return { name: "score", heading: only?.heading ?? "result", number: true, text: scoreText,
      about: only && only.better === "lower" ? "Lower is better" : null,
      sort: only ? (e) => value(e, "score") : worth,
      among: (e) => e.group.metric ?? metrics.length,
      down: only?.better !== "lower" }; // the best first
  }

  function bytes(name) {
    return (e) => (none(value(e, name)) ? null : `${report.thousands(value(e, name))} bytes`);
  }

  function seeds({ group, run }) {
    if (run) return String(run.seed);
    const all = group.runs.length;
    return group.n === all ? `n = ${all}` : `n = ${group.n} of ${all}`;
  }

  function scoreText({ group, run }) {
    if (run?.now?.score) return `${run.now.score} so far`;
    if (run && several(group)) return run.score_text;
    const told = group.score_text || (run ? run.score_text : "");
    return group.leading ? `${told} *` : told;
  }

  // -- rows ---------------------------------------------------------------------

  function rowOf(entry, index) {
    let row = rows.get(entry.key);
    if (!row) {
      row = makeRow(entry);
      rows.set(entry.key, row);
    }
    row.setAttribute("aria-level", entry.level ?? 1);
    row.setAttribute("aria-rowindex", index + 2); // the head is the first
    row.classList.toggle("inner", entry.level === 2);
    if (!entry.run) row.setAttribute("aria-expanded", String(isOpen(entry)));
    return row;
  }

  function makeRow(entry) {
    const row = el("tr", { tabindex: -1, "data-key": entry.key });
    const name = entry.run ? entry.run.label : entry.group.label;
    const shown = el("input", { type: "checkbox", tabindex: -1, "aria-label": `${name} in the chart` });
    row.append(el("td", { class: "tick" }, shown));
    columns.forEach((column, index) => {
      const cell = el(index ? "td" : "th", {
        class: [column.number ? "number" : "", column.name].filter(Boolean).join(" "),
        scope: index ? null : "row",
      });
      if (!index && !entry.run) cell.append(el("span", { class: "turn", "aria-hidden": "true" }));
      if (!index) cell.append(report.swatch(entry.group));
      cell.append(""); // what write() replaces
      row.append(cell);
    });
    write(row, entry);
    const more = entry.run
      ? report.button("…", () => report.details(entry.run), { tabindex: -1, class: "more",
        title: "Details", "aria-label": `Details of ${name}` })
      : null;
    row.append(el("td", { class: "last" }, more));
    row.entry = entry;
    return row;
  }

  /** Put into a row what is known now, where that is something else than before. */
  function write(row, entry) {
    columns.forEach((column, index) => {
      const cell = row.cells[index + 1]; // after the box
      const text = column.text(entry);
      const now = column.name === "status" ? entry.run?.now : null;
      const key = column.name === "status" ? `${text} ${now?.step} ${epochs(entry)}` : text;
      if (cell.told === key) return;
      cell.told = key;
      cell.lastChild.replaceWith(column.name === "status" ? badge(text, entry) : text);
      const title = now ? report.progress(entry.run) : column.title?.(entry);
      if (title) cell.title = title;
      else cell.removeAttribute("title");
    });
  }

  /** `epoch 3/10`, or of a group `epoch 3–5/10`: where its running runs are. */
  function epochs(entry) {
    const running = entry.runs.map((number) => report.runs[number].now).filter((now) =>
      now?.status === "running" && now.epoch);
    if (!running.length) return "";
    const at = running.map((now) => now.epoch);
    const [low, high] = [Math.min(...at), Math.max(...at)];
    return ` epoch ${low === high ? low : `${low}–${high}`}/${running[0].epochs}`;
  }

  function badge(state, entry) {
    const { run } = entry;
    const kind = ["failed", "damaged", "running", "interrupted", "stale", "missing"]
      .find((word) => state.includes(word)) ?? "done";
    const sign = { failed: "✕", damaged: "✕", running: "▸", interrupted: "‖", stale: "↻", missing: "–",
      done: "✓" }[kind];
    const steps = run?.now?.steps;
    return el("span", { class: `state ${kind}` }, el("span", { "aria-hidden": "true" }, `${sign} `),
      state, epochs(entry),
      steps ? el("progress", { max: steps, value: run.now.step,
        "aria-label": `Steps of ${run.label}` }) : null);
  }

  // -- order ----------------------------------------------------------------------

  function entries() {
    const runs = report.matching();
    if (report.view.apart) return sorted(runs.map((run) => runEntry(run, 1)));
    const byGroup = new Map();
    for (const run of runs) {
      if (!byGroup.has(run.group)) byGroup.set(run.group, []);
      byGroup.get(run.group).push(run);
    }
    const top = [...byGroup].map(([group, own]) =>
      several(group) ? { ...groupEntry(group), own } : runEntry(own[0], 1));
    return sorted(top).flatMap((entry) =>
      entry.run || !isOpen(entry)
        ? [entry]
        : [entry, ...sorted(entry.own.map((run) => runEntry(run, 2)))]);
  }

  function sorted(list) {
    if (!sorting) return list;
    const by = sorting.column.sort ?? sorting.column.text;
    const sign = sorting.up ? 1 : -1;
    const among = sorting.column.among ?? (() => 0);
    return list.slice().sort((one, other) => {
      if (among(one) !== among(other)) return among(one) - among(other);
      const [a, b] = [by(one), by(other)];
      if (none(a) || none(b)) return none(a) - none(b); // what has no value stands below
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * report.byText(String(a), String(b));
    });
  }

  function sortBy(column) {
    const down = Boolean(column.down);
    const same = sorting?.column.name === column.name;
    if (same && sorting.up === down) sorting = null;
    else sorting = { column, up: same ? !sorting.up : !down };
    headings();
    fill();
  }

  function headings() {
    for (const cell of $("table").tHead.rows[0].cells) {
      const { column } = cell;
      if (!column || column.unsorted) continue;
      const own = sorting?.column.name === column.name;
      cell.setAttribute("aria-sort", own ? (sorting.up ? "ascending" : "descending") : "none");
    }
  }

  function makeHead() {
    const all = el("input", { type: "checkbox", "aria-label": "All rows in the chart" });
    all.addEventListener("change", () =>
      report.show(order.flatMap((entry) => entry.runs), all.checked));
    const head = $("table").tHead.rows[0];
    head.replaceChildren(el("th", { scope: "col", class: "tick" }, all));
    for (const column of columns) {
      const label = column.unsorted ? column.heading :
        report.button(column.heading, () => sortBy(column), { title: column.about });
      const cell = el("th", { scope: "col", class: column.number ? "number" : null }, label);
      cell.column = column;
      cell.addEventListener("focusin", () => intoSight(cell));
      head.append(cell);
    }
    head.append(el("th", { scope: "col", class: "last" }, el("span", { class: "unseen" }, "details")));
    headings();
  }

  /** Scroll sideways until a heading is seen as a whole. */
  function intoSight(cell) {
    const frame = $("table-frame");
    const hidden = cell.getBoundingClientRect().right - frame.getBoundingClientRect().right;
    if (hidden > 0) frame.scrollLeft += hidden + 10;
  }

  // -- what is shown ----------------------------------------------------------------

  /** `kept`: the same part of the rows is in the document as before. */
  function fill(kept = false) {
    order = entries();
    const near = new Set(order.slice(0, inDocument.MOST).map((entry) => entry.key));
    for (const key of rows.keys()) if (!near.has(key)) rows.delete(key);
    inDocument.fill(order.length, kept);
    $("table").setAttribute("aria-rowcount", order.length + 1);
    tally();
    if (!order.length) {
      $("table").tBodies[0].append(el("tr", {}, el("td", { colspan: columns.length + 2,
        class: "empty" }, "No run matches the filter.")));
    }
    ticks();
  }

  function tally() {
    const runs = report.matching().length;
    const all = report.runs.length;
    $("found").textContent = runs === all ? report.plural(all, "run") :
      `${runs} of ${report.plural(all, "run")}`;
  }

  const isShown = () => order.slice(...inDocument.range);

  const makeWindow = () => report.rowWindow({ table: $("table"), frame: $("table-frame"), moved,
    rowAt: (index) => rowOf(order[index], index),
    left: (index) => rows.delete(order[index].key) });

  /** Other rows are in the document. Tab reaches one of them, and the keyboard stays in the table. */
  function moved(lost) {
    const own = isShown();
    own.forEach(tick);
    if (!own.some((entry) => entry.key === current)) {
      const [from, until] = inDocument.range;
      const isBelow = order.findIndex((entry) => entry.key === current) >= until;
      current = own.at(isBelow && from ? -1 : 0)?.key ?? null;
    }
    for (const key of armed) if (key !== current) arm(key, false);
    arm(current, true);
    heat();
    if (lost) rows.get(current).focus({ preventScroll: true });
  }

  /** A row can be reached with Tab, and what is in it, only while the keyboard is there. */
  function arm(key, on) {
    const row = rows.get(key);
    if (on && row) armed.add(key);
    else armed.delete(key);
    if (!row) return;
    const index = on ? 0 : -1;
    if (row.tabIndex === index) return;
    row.tabIndex = index;
    for (const inner of row.querySelectorAll("input, button")) inner.tabIndex = index;
  }

  function setTick(box, runs) {
    const shown = runs.filter((number) => !report.view.hidden.has(number)).length;
    box.checked = shown > 0 && shown === runs.length;
    box.indeterminate = shown > 0 && !box.checked;
  }

  function tick(entry) {
    setTick(rows.get(entry.key).cells[0].firstChild, entry.runs);
  }

  function ticks() {
    isShown().forEach(tick);
    setTick($("table").tHead.rows[0].cells[0].firstChild, order.flatMap((entry) => entry.runs));
  }

  let marked = [];
  function heat() {
    for (const row of marked) row.classList.remove("hot");
    const hot = new Set(report.view.hot);
    marked = hot.size ? isShown()
      .filter((entry) => entry.runs.some((number) => hot.has(number)))
      .map((entry) => rows.get(entry.key)) : [];
    for (const row of marked) row.classList.add("hot");
  }

  function toggle(entry, open = !isOpen(entry)) {
    if (entry.run || open === isOpen(entry)) return;
    if (open) report.view.open.add(entry.group.number);
    else report.view.open.delete(entry.group.number);
    fill();
    focus(entry.key);
  }

  function act(entry) {
    if (entry.run) report.details(entry.run);
    else toggle(entry);
  }

  function focus(key) {
    if (current !== key) {
      arm(current, false);
      current = key;
    }
    inDocument.bring(order.findIndex((entry) => entry.key === key));
    arm(key, true);
    rows.get(key).focus({ preventScroll: true }); // which would scroll sideways, too
    scrollTo(rows.get(key));
  }

  /** Bring a row into sight by scrolling the table alone; one that is far away, into the middle. */
  function scrollTo(row) {
    const frame = $("table-frame");
    const head = $("table").tHead.rows[0].offsetHeight;
    const top = row.offsetTop - head;
    const under = row.offsetTop + row.offsetHeight - frame.clientHeight;
    if (top >= frame.scrollTop && under <= frame.scrollTop) return;
    const near = Math.min(Math.abs(top - frame.scrollTop), Math.abs(under - frame.scrollTop));
    if (near > 3 * row.offsetHeight) frame.scrollTop = (top + under) / 2;
    else frame.scrollTop = top < frame.scrollTop ? top : under;
  }

  /** Bring a run's row into sight, opening its group; the page itself does not scroll. */
  function reveal(number, open) {
    const run = report.runs[number];
    if (open && several(run.group) && !report.view.apart && !report.view.open.has(run.group.number)) {
      report.view.open.add(run.group.number);
      fill();
    }
    const found = order.find((e) => e.run === run) ?? order.find((e) => e.runs.includes(number));
    if (!found) return;
    inDocument.bring(order.indexOf(found));
    scrollTo(rows.get(found.key));
  }

  // -- events -------------------------------------------------------------------------

  const entryAt = (target) => target.closest("tr")?.entry;

  function onKey(event) {
    const entry = entryAt(event.target);
    if (!entry || event.altKey || event.ctrlKey || event.metaKey) return;
    const inRow = event.target.tagName !== "TR"; // at a control, which has keys of its own
    const here = order.findIndex((each) => each.key === entry.key);
    const goals = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: order.length - 1,
      PageDown: here + 10, PageUp: here - 10 };
    if (event.key in goals) {
      focus(order[Math.min(order.length - 1, Math.max(0, goals[event.key]))].key);
    } else if (inRow) return;
    else if (event.key === "ArrowRight") toggle(entry, true);
    else if (event.key === "ArrowLeft") {
      if (entry.level === 2) focus(`g${entry.group.number}`);
      else toggle(entry, false);
    } else if (event.key === "Enter") act(entry);
    else if (event.key === " ") {
      report.show(entry.runs, entry.runs.every((number) => report.view.hidden.has(number)));
    } else return;
    event.preventDefault();
  }

  function listen() {
    const body = $("table").tBodies[0];
    const lit = (entry) => report.highlight(entry ? entry.runs : []);
    body.addEventListener("keydown", onKey);
    body.addEventListener("pointerover", (event) => lit(entryAt(event.target)));
    body.addEventListener("pointerleave", () => lit(entryAt(document.activeElement)));
    body.addEventListener("focusin", (event) => {
      const entry = entryAt(event.target);
      if (entry && entry.key !== current) {
        arm(current, false);
        current = entry.key;
        arm(current, true);
      }
      lit(entry);
    });
    body.addEventListener("focusout", (event) => {
      if (!body.contains(event.relatedTarget)) lit(null);
    });
    body.addEventListener("click", (event) => {
      const entry = entryAt(event.target);
      if (entry && !event.target.closest("input, button")) act(entry);
    });
    body.addEventListener("change", (event) => {
      const entry = entryAt(event.target);
      if (entry) report.show(entry.runs, event.target.checked);
    });
    report.on("filter", () => fill());
    report.on("chart", ticks);
    report.on("hot", heat);
  }

  // -- filters ------------------------------------------------------------------------

  /** A box offers the values that there are, and the one that is chosen. */
  function offer(box, of) {
    const found = [...new Set([...report.runs.map(of), box.value].filter(Boolean))]
      .sort(report.byText);
    box.parentElement.hidden = found.length < 2;
    if (box.offered === found.join("\n")) return;
    box.offered = found.join("\n");
    const { value } = box;
    box.replaceChildren(el("option", { value: "" }, "all"),
      ...found.map((each) => el("option", { value: each }, each)));
    box.value = value;
  }

  const offers = () =>
    report.facets.forEach(([name, , of]) => offer($(`facet-${name}`), of));

  function makeFilters() {
    const boxes = report.facets.map(([name, label]) => {
      const box = el("select", { id: `facet-${name}` });
      box.addEventListener("change", () => {
        report.view.facets[name] = box.value;
        report.tell("filter");
      });
      report.on("filter", () => { box.value = report.view.facets[name] ?? ""; });
      $("facets").append(el("label", {}, `${label} `, box));
      return box;
    });
    offers();
    const words = $("words");
    words.addEventListener("input", report.later(() => {
      report.view.words = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      report.tell("filter");
    }, 80));
    $("clear").addEventListener("click", () => {
      words.value = "";
      for (const box of boxes) box.value = "";
      Object.assign(report.view, { words: [], facets: {} });
      report.tell("filter");
    });
    const each = $("each");
    each.addEventListener("change", () => {
      report.view.apart = each.checked;
      $("expand").hidden = each.checked;
      fill();
    });
    $("expand").addEventListener("click", () => {
      const open = !report.view.open.size;
      report.view.open = new Set(open ? report.groups.map((group) => group.number) : []);
      $("expand").textContent = open ? "Collapse all" : "Expand all";
      fill();
    });
    for (const id of ["each-label", "expand"]) $(id).hidden = !report.grouped;
  }

  function captions() {
    const { settings } = report.data;
    $("captions").replaceChildren();
    const byLine = new Map();
    for (const setting of settings) {
      for (const line of new Set(setting.captions)) {
        if (!byLine.has(line)) byLine.set(line, []);
        byLine.get(line).push(setting);
      }
    }
    for (const [line, own] of byLine) {
      const where = own.length > 3 ? `${own.length} of ${settings.length} settings` :
        own.map((setting) => setting.name).join("; ");
      $("captions").append(el("p", {},
        own.length < settings.length ? el("strong", {}, `${where}: `) : "", line));
    }
  }

  function start() {
    columns = makeColumns();
    inDocument = makeWindow();
    makeFilters();
    makeHead();
    fill();
    captions();
    listen();
    narrow.addEventListener("change", () => refresh());
  }

  /** What is known of the runs has changed: the same rows say it, where they are. */
  function refresh() {
    const [before, keys] = [names(), order.map((entry) => entry.key).join()];
    const { activeElement } = document;
    const frame = $("table-frame");
    const { scrollTop, scrollLeft } = frame;
    const within = activeElement.closest("#table tbody tr") ? activeElement.closest("tr") : null;
    const key = within?.entry.key;
    const inRow = within && [...within.querySelectorAll("input, button")].indexOf(activeElement);
    columns = makeColumns();
    if (names() !== before) {
      rows.clear();
      makeHead();
    } else for (const row of rows.values()) write(row, row.entry);
    offers();
    captions();
    if (names() === before && entries().map((entry) => entry.key).join() === keys) {
      tally();
      return;
    }
    fill(true);
    frame.scrollTo({ top: scrollTop, left: scrollLeft, behavior: "instant" });
    const row = key && order.some((entry) => entry.key === key) ? rows.get(key) : null;
    const target = inRow >= 0 ? row?.querySelectorAll("input, button")[inRow] : row;
    target?.focus({ preventScroll: true });
  }

  return { start, reveal, refresh };
})();
