// Curves over the epochs or evaluations, drawn by BokehJS; highlighting goes both ways between them and the table.

report.chart = (() => {
  const { el, $ } = report;
  const DASHED = 200; // lines up to which methods can be told apart by their dashes
  const NEAR = 30; // pixels from a line within which the pointer is at it
  let measure = null; // name of a curve
  let chosen = false; // whether the user chose it; otherwise it is the first that there is
  let colouring = "optimizer";
  let plot = null; // of Bokeh, and what is drawn in it
  let view = null;
  let lines, spots, hotLines, hotSpots;
  let shown = []; // runs that are drawn
  let zoomed = false; // by the user: then a filter does not change what part is shown
  let sheet = null; // of the swatches' colours
  let at = null; // {run, epoch}: where the keyboard or the pointer is
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const shownAs = () => report.data.measures[measure];
  const curve = (run) => report.data.curves[measure]?.[run.number];
  const isLog = () => $("log").checked && !$("log").disabled;
  const usable = (value) => value !== null && (!isLog() || value > 0);

  // -- colours ------------------------------------------------------------------

  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).map((c) => {
      const part = c / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const mixed = (colour, other, share) => {
    const [a, b] = [channels(colour), channels(other)];
    return `#${a.map((part, i) => Math.round(part + (b[i] - part) * share).toString(16)
      .padStart(2, "0")).join("")}`;
  };

  /** What a group's colour stands for: one of its parts, and the colours of all there are. */
  const PARTS = { optimizer: (group) => group.optimizer, method: (group) => group.kind,
    target: (group) => group.target };
  const colours = () => report.data.look.colours[colouring];

  /** The figures' colour, moved towards the ink where it could not be told from the paper. */
  const colourOf = (name) => {
    const [colour, paper, ink] = [colours()[name], css("--paper"), css("--ink")];
    const least = luminance(paper) > 0.5 ? 2.2 : 4; // on white they are as in the figures
    for (let share = 0; share < 1; share += 0.1) {
      const tried = mixed(colour, ink, share);
      if (contrast(tried, paper) >= least) return tried;
    }
    return ink;
  };

  // Among very many lines no dash can be seen, and dashes take most of the time to draw.
  const dashOf = (method, width) => (shown.length > DASHED ? [] : dashesOf(method, width));
  const dashesOf = (method, width) => report.data.look.dashes[method].map((part) => part * width);

  // -- the plot -------------------------------------------------------------------

  async function build() {
    const B = Bokeh;
    plot = B.Plotting.figure({
      sizing_mode: "stretch_both", tools: "", toolbar_location: null, x_axis_label: report.data.course,
      x_range: new B.Range1d({ start: 0, end: 1 }), y_range: new B.Range1d({ start: 0, end: 1 }),
    });
    plot.toolbar.logo = null;
    plot.add_tools(
      new B.BoxZoomTool(),
      new B.WheelZoomTool({ modifiers: { ctrl: true }, zoom_on_axis: false }),
    );
    const empty = () => new B.ColumnDataSource({ data: { xs: [], ys: [], colour: [], dash: [] } });
    const dots = () => new B.ColumnDataSource({ data: { x: [], y: [], colour: [] } });
    const drawn = (source, width, alpha) => plot.multi_line({ field: "xs" }, { field: "ys" }, {
      source, line_color: { field: "colour" }, line_dash: { field: "dash" }, line_width: width,
      line_alpha: alpha });
    const dotted = (source, size, alpha) => plot.scatter({ field: "x" }, { field: "y" }, {
      source, size, fill_color: { field: "colour" }, line_color: null, fill_alpha: alpha });
    lines = drawn(empty(), 1.4, 0.9);
    spots = dotted(dots(), 5, 0.9);
    hotLines = drawn(empty(), 3.2, 1);
    hotSpots = dotted(dots(), 8, 1);
    look();
    data();
    fit();
    view = await B.Plotting.show(plot, $("canvas"));
    for (const range of [plot.x_range, plot.y_range]) {
      range.change.connect(() => { zoomed ||= !fitting; });
    }
    plot.on_event("mousemove", (event) => point(event));
    plot.on_event("mouseleave", () => leave());
    plot.on_event("doubletap", () => { zoomed = false; fit(); });
    plot.on_event("tap", (event) => {
      const found = nearest(event);
      if (found) report.details(found.run);
    });
  }

  function look() {
    const [paper, ink, faint, line] = ["--paper", "--ink", "--faint", "--line"].map(css);
    Object.assign(plot, { background_fill_color: paper, border_fill_color: paper,
      outline_line_color: line });
    for (const axis of [...plot.below, ...plot.left]) {
      Object.assign(axis, { axis_label_text_color: ink, major_label_text_color: ink,
        axis_line_color: faint, major_tick_line_color: faint, minor_tick_line_color: null,
        axis_label_text_font_style: "normal", major_label_text_font_size: "12px",
        axis_label_text_font_size: "13px", axis_label_text_font: "system-ui, sans-serif",
        major_label_text_font: "system-ui, sans-serif" });
    }
    for (const grid of plot.center) grid.grid_line_color = line;
  }

  /** As style sheets do it: rows that are made later have their colour, too. */
  function swatches() {
    sheet ??= document.head.appendChild(el("style"));
    sheet.textContent = [".swatch { display: none; }",
      `.swatch[data-${colouring}] { display: inline-block; }`,
      ...Object.keys(colours()).map((name, number) =>
        `.swatch[data-${colouring}="${number}"] { background: ${colourOf(name)}; }`)].join("\n");
  }

  /** A mark in a group's colour, whatever that stands for. */
  report.swatch = (group) => {
    const made = el("span", { class: "swatch", "aria-hidden": "true" });
    for (const [name, of] of Object.entries(PARTS)) {
      made.dataset[name] = Object.keys(report.data.look.colours[name]).indexOf(of(group));
    }
    return made;
  };

  /** Linear or logarithmic, with ticks to match and without marks that say nothing. */
  function scale() {
    const B = Bokeh;
    const [x, y] = [plot.below[0], plot.left[0]];
    plot.y_scale = isLog() ? new B.LogScale() : new B.LinearScale();
    const few = plot.y_range.end < 4 * plot.y_range.start; // powers of ten would be one tick
    y.ticker = isLog() && !few ? new B.LogTicker({ mantissas: [1, 2, 5] }) : new B.BasicTicker();
    plot.center.find((grid) => grid.dimension === 1).ticker = y.ticker;
    y.formatter = new B.BasicTickFormatter({ use_scientific: false });
    y.axis_label = label();
    x.ticker = new B.BasicTicker({ mantissas: [1, 2, 5], min_interval: 1 });
    plot.center.find((grid) => grid.dimension === 0).ticker = x.ticker;
  }

  function label() {
    const sets = [...new Set(report.data.settings.map((each) => each.measured_on))];
    const set = shownAs().set ? `${sets.join(" and ")} ` : "";
    return set + shownAs().axis + (isLog() ? ", log scale" : "");
  }

  const epochs = new Map(); // number of epochs -> 1, 2, …; one list for all curves of a length
  const xs = ({ length }) => {
    if (!epochs.has(length)) epochs.set(length, Array.from({ length }, (_, place) => place + 1));
    return epochs.get(length);
  };
  const ys = (values) => values.map((value) => (usable(value) ? value : NaN));

  function columns(runs, width, dash) {
    const drawn = runs.filter((run) => curve(run).length > 1);
    const known = new Map();
    const colour = (run) => {
      const name = PARTS[colouring](run.group);
      if (!known.has(name)) known.set(name, colourOf(name));
      return known.get(name);
    };
    return {
      many: { xs: drawn.map((run) => xs(curve(run))), ys: drawn.map((run) => ys(curve(run))),
        colour: drawn.map(colour), dash: drawn.map((run) => dash(run.group.method, width)) },
      dots: (chosen) => {
        const points = chosen.flatMap((run) => curve(run).map((value, place) =>
          ({ x: place + 1, y: usable(value) ? value : NaN, colour: colour(run) })));
        return { x: points.map((p) => p.x), y: points.map((p) => p.y),
          colour: points.map((p) => p.colour) };
      },
    };
  }

  /** What is drawn follows the filters and what was taken out of the chart. */
  function data() {
    const { hidden } = report.view;
    shown = report.matching().filter((run) => !hidden.has(run.number) && curve(run));
    const made = columns(shown, 1.4, dashOf);
    lines.data_source.data = made.many;
    spots.data_source.data = made.dots(shown.filter((run) => curve(run).length === 1));
    heat();
    $("plot").dataset.runs = shown.length;
    $("plot").setAttribute("aria-label",
      `${label()} over the ${report.data.course}s, ${report.plural(shown.length, "run")}`);
    idle();
  }

  function heat() {
    const hot = new Set(report.view.hot);
    const chosen = shown.filter((run) => hot.has(run.number));
    const made = columns(chosen, 3.2, dashesOf);
    hotLines.data_source.data = made.many;
    hotSpots.data_source.data = made.dots(chosen);
    // Many lines are faint, so that where most of them are can be seen.
    const alpha = Math.max(0.25, Math.min(0.9, 8 / Math.sqrt(shown.length || 1)));
    const faint = chosen.length ? 0.3 * alpha : alpha;
    lines.glyph.line_alpha = faint;
    spots.glyph.fill_alpha = faint;
    $("plot").dataset.hot = chosen.map((run) => run.number).join(" ");
  }

  // -- which part is shown ------------------------------------------------------------

  let fitting = false;
  function setRange(range, start, end) {
    fitting = true;
    range.setv({ start, end });
    fitting = false;
  }

  /** All of the shown curves, or their end. */
  function fit(tail = false) {
    const longest = Math.max(1, ...shown.map((run) => curve(run).length));
    const from = tail ? Math.ceil((longest + 1) / 2) : 1;
    const values = shown.flatMap((run) => curve(run).slice(from - 1).filter(usable));
    const room = Math.max(0.25, (longest - from) * 0.03);
    setRange(plot.x_range, from - room, longest + room);
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (!values.length) [low, high] = isLog() ? [0.1, 1] : [0, 1];
    if (isLog()) {
      const room = Math.max(1.05, (high / low) ** 0.05);
      setRange(plot.y_range, low / room, high * room);
    } else {
      const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
      setRange(plot.y_range, low - room, high + room);
    }
    zoomed = tail;
    scale();
  }

  function zoom(factor) {
    for (const [range, log] of [[plot.x_range, false], [plot.y_range, isLog()]]) {
      const [a, b] = [range.start, range.end].map((value) => (log ? Math.log(value) : value));
      const [middle, half] = [(a + b) / 2, ((b - a) / 2) * factor];
      const [start, end] = [middle - half, middle + half].map((v) => (log ? Math.exp(v) : v));
      range.setv({ start, end });
    }
    zoomed = true;
  }

  // -- pointer and keyboard -----------------------------------------------------------

  /** The drawn run and epoch that are nearest to a place of the pointer, if any is near. */
  function nearest({ sx, sy }) {
    if (!view) return null;
    const { x_scale, y_scale } = view.frame;
    let best = null;
    let least = NEAR;
    for (const run of shown) {
      const values = curve(run);
      let before = null;
      for (let place = 0; place < values.length; place += 1) {
        if (!usable(values[place])) {
          before = null;
          continue;
        }
        const here = [x_scale.compute(place + 1), y_scale.compute(values[place])];
        const far = before ? toSegment(sx, sy, before, here) : Math.hypot(sx - here[0], sy - here[1]);
        if (far < least) {
          least = far;
          const back = before && sx - before[0] < here[0] - sx;
          best = { run, epoch: back ? place : place + 1 };
        }
        before = here;
      }
    }
    return best;
  }

  function toSegment(x, y, [ax, ay], [bx, by]) {
    const [dx, dy] = [bx - ax, by - ay];
    const length = dx * dx + dy * dy;
    const part = length ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
    return Math.hypot(x - ax - part * dx, y - ay - part * dy);
  }

  const revealSoon = report.later((number) => {
    if (report.view.hot.length === 1 && report.view.hot[0] === number) {
      report.table.reveal(number, false);
    }
  }, 200);

  function point(event) {
    const found = nearest(event);
    if (!found) return leave();
    at = found;
    report.highlight([found.run.number]);
    tell(found, false);
    revealSoon(found.run.number);
    return undefined;
  }

  function leave() {
    $("tip").hidden = true;
    if (document.activeElement === $("plot")) return;
    at = null;
    report.highlight([]);
    idle();
  }

  function sentence({ run, epoch }) {
    const { name, unit, digits } = shownAs();
    const value = curve(run)[epoch - 1];
    const told = value === null ? "no finite value" :
      (digits ? report.fixed(value, digits) : report.short(value)) + (unit === "%" ? unit :
        unit && unit !== name ? ` ${unit}` : "");
    const state = run.state === "done" ? "" : `, ${run.state}`;
    return { title: run.label + state, text: `${report.data.course} ${epoch}: ${name} ${told}` };
  }

  /** Beside the point, and in the line below; aloud only what the keyboard asked for. */
  function tell(place, aloud) {
    const { title, text } = sentence(place);
    const tip = $("tip");
    tip.replaceChildren(el("strong", {}, title), el("br"), text);
    tip.hidden = false;
    $("told").setAttribute("aria-live", aloud ? "polite" : "off");
    $("told").textContent = `${title} – ${text}`;
    if (!view) return;
    const value = curve(place.run)[place.epoch - 1];
    const x = view.frame.x_scale.compute(place.epoch);
    const y = usable(value) ? view.frame.y_scale.compute(value) : 0;
    const box = $("plot");
    const { clientWidth: width, clientHeight: height } = box;
    tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 4))}px`;
    const above = y - tip.offsetHeight - 14;
    tip.style.top = `${Math.max(4, Math.min(above < 4 ? y + 16 : above,
      height - tip.offsetHeight - 4))}px`;
  }

  function idle() {
    $("told").textContent = shown.length
      ? `${report.plural(shown.length, "curve")} of ${report.plural(report.runs.length, "run")}.`
      : "No run that is shown has a curve.";
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !plot) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "+" || event.key === "=") zoom(0.7);
    else if (event.key === "-") zoom(1 / 0.7);
    else if (event.key === "0") { zoomed = false; fit(); }
    else if (event.key === "Enter" && at) report.details(at.run);
    else if ((step || along) && shown.length) move(step ?? 0, along ?? 0);
    else return;
    event.preventDefault();
  }

  function move(step, along) {
    const place = at ? shown.indexOf(at.run) : -1;
    const next = place < 0 ? (step < 0 ? shown.length - 1 : 0) :
      (place + step + shown.length) % shown.length;
    const run = shown[next];
    const last = curve(run).length;
    const epoch = at ? Math.max(1, Math.min(last, at.epoch + along)) : last;
    at = { run, epoch };
    report.highlight([run.number]);
    tell(at, true);
    report.table.reveal(run.number, false);
  }

  // -- what can be switched -------------------------------------------------------------

  /** A row of buttons, one a name, that put their runs into the chart or take them out. */
  function legend(id, of, sample) {
    const names = [...new Set(report.runs.map(of))];
    $(id).hidden = names.length < 2;
    const runsOf = (name) => report.runs.filter((run) => of(run) === name)
      .map((run) => run.number);
    const made = names.map((name) => {
      const button = report.button("", () => report.show(runsOf(name),
        button.getAttribute("aria-pressed") !== "true"), { "aria-pressed": "true" });
      button.append(...sample(report.runs.find((run) => of(run) === name).group), name);
      button.runs = runsOf(name);
      button.addEventListener("pointerenter", () => report.highlight(
        button.runs.filter((number) => !report.view.hidden.has(number))));
      button.addEventListener("pointerleave", () => report.highlight([]));
      return button;
    });
    $(id).append(...made);
    report.on("chart", () => made.forEach((button) => button.setAttribute("aria-pressed",
      String(button.runs.some((number) => !report.view.hidden.has(number))))));
  }

  function dashSample(method) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    const line = document.createElementNS(space, "line");
    for (const [name, value] of Object.entries({ viewBox: "0 0 30 8", width: 30, height: 8,
      "aria-hidden": "true" })) drawing.setAttribute(name, value);
    for (const [name, value] of Object.entries({ x1: 0, y1: 4, x2: 30, y2: 4,
      stroke: "currentColor", "stroke-width": 2,
      "stroke-dasharray": dashesOf(method, 2).join(" ") })) line.setAttribute(name, value);
    drawing.append(line);
    return drawing;
  }

  /** A choice of what some run has a curve of. */
  function measures() {
    const sets = [...new Set(report.data.settings.map((each) => each.measured_on))].join("/");
    const all = report.data.measures;
    const drawn = Object.keys(all).filter((name) =>
      report.data.curves[name]?.some((each) => each?.some((value) => value !== null)));
    $("measure").parentElement.hidden = !drawn.length;
    if (!chosen) choose(drawn[0] ?? Object.keys(all)[0]);
    const there = Object.keys(all).filter((name) => name === measure || drawn.includes(name));
    if (there.join() === $("measure").offered) return;
    $("measure").offered = there.join();
    $("measure").replaceChildren(...there.map((name) => el("option", { value: name },
      (all[name].set ? `${sets} ` : "") + all[name].name)));
    $("measure").value = measure;
  }

  /** Show this measure, on the axis that suits it. */
  function choose(name) {
    if (name === measure) return;
    measure = name;
    const { log } = shownAs();
    $("log").checked = log === true;
    $("log").disabled = log === undefined;
    $("log-label").hidden = $("log").disabled;
  }

  function controls() {
    measures();
    $("measure").addEventListener("change", () => {
      chosen = true;
      choose($("measure").value);
      redraw();
    });
    $("log").addEventListener("change", redraw);
    const only = (part, group) => {
      const made = report.swatch(group);
      for (const other of Object.keys(PARTS)) if (other !== part) delete made.dataset[other];
      return made;
    };
    legend("by-optimizer", (run) => run.group.optimizer, (group) => [only("optimizer", group)]);
    legend("by-method", (run) => run.group.kind,
      (group) => [only("method", group), dashSample(group.method)]);
    legend("by-target", (run) => run.group.target || "dense", (group) => [only("target", group)]);
    // Colours say most where they tell something apart.
    const telling = Object.keys(PARTS).filter((name) =>
      Object.keys(report.data.look.colours[name]).length > 1);
    colouring = telling[0] ?? "optimizer";
    $("colour").append(...telling.map((name) => el("option", { value: name }, name)));
    $("colour").parentElement.hidden = telling.length < 2;
    $("colour").addEventListener("change", () => {
      colouring = $("colour").value;
      recolour();
    });
    swatches();
  }

  function redraw() {
    if (!plot) return;
    at = null;
    $("tip").hidden = true;
    data();
    fit();
  }

  function update() {
    if (!plot) return;
    data();
    if (!zoomed) fit();
  }

  /** There are other curves; the part that the user chose, and the place, stay. */
  function refresh() {
    const before = measure;
    measures();
    if (measure === before) update();
    else redraw();
    if (!at) return;
    const stays = shown.includes(at.run) && at.epoch <= curve(at.run).length;
    if (stays) tell(at, false);
    else {
      at = null;
      $("tip").hidden = true;
    }
  }

  async function start() {
    await build();
    $("zoom-in").addEventListener("click", () => zoom(0.7));
    $("zoom-out").addEventListener("click", () => zoom(1 / 0.7));
    $("zoom-end").addEventListener("click", () => fit(true));
    $("zoom-all").addEventListener("click", () => fit());
    $("plot").addEventListener("keydown", onKey);
    $("plot").addEventListener("blur", () => {
      at = null;
      $("tip").hidden = true;
      report.highlight([]);
    });
    report.on("filter", update);
    report.on("chart", update);
    report.on("hot", heat);
  }

  function recolour() {
    swatches();
    if (!plot) return;
    look();
    data();
  }

  return { controls, start, recolour, refresh, ranges: () => [plot.x_range, plot.y_range].map((range) =>
    [range.start, range.end]) };
})();
