// Curves over the epochs or evaluations, drawn by BokehJS; highlighting goes both ways between them and the table.

report.chart = (() => {
  const { el, $ } = report;
  const DASHED = 200; // lines up to which some can be told apart by their dashes
  const LONGEST = 44; // characters of an axis's name that fit beside the chart
  const FEW = 12; // lines up to which each is drawn thicker
  const PATTERNS = [[], [6, 2], [1.5, 1.5], [6, 2, 1.5, 2]]; // in multiples of a line's width
  const [THIN, THICK] = [0.7, 1.9]; // lines of the first and last value, by the usual width
  const MOST_BANDS = 8; // means up to which their intervals can be told apart
  const FEWEST = 3; // runs from which on an interval is drawn: that of two is 18 deviations wide
  const LEAST_ERROR = 1e-4; // of all examples: less is drawn as so much
  const WIDE = 3; // times the smallest error that the largest one is: from here on a log scale
  const NEAR = 30; // pixels from a line within which the pointer is at it
  let measure = null; // name of a curve
  let chosen = false; // whether the user chose it; otherwise it is the first that there is
  let scaled = false; // whether the user chose the scale; otherwise it is the one that suits
  let colouring = "optimizer";
  let plot = null; // of Bokeh, and what is drawn in it
  let view = null;
  let bands, lines, spots, hotLines, hotSpots;
  let shown = []; // runs that are in the chart
  let drawn = []; // what is drawn of them: means of groups, or single runs
  let zoomed = false; // by the user: then a filter does not change what part is shown
  let sheet = null; // of the swatches' colours
  let at = null; // {line, epoch}: where the keyboard or the pointer is
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const shownAs = () => report.data.measures[measure];
  const curve = (run) => report.data.curves[measure]?.[run.number];
  const isLog = () => $("log").checked && !$("log").disabled;
  // A share of the examples lies on a log scale as what it lacks to all of them, its error.
  const isError = () => isLog() && shownAs().whole !== undefined;
  const usable = (value) => value !== null && (!isLog() || isError() || value > 0);
  const error = (value) => Math.max(LEAST_ERROR, 1 - value / shownAs().whole) * shownAs().whole;
  const onAxis = (value) => (isError() ? error(value) : value);

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
  const coloursOf = (part) => report.data.look.colours[part] ?? {};
  const colours = () => coloursOf(colouring);

  /** The figures' colour, moved towards the ink where it could not be told from the paper. */
  const colourOf = (name) => {
    const [colour, paper, ink] = [colours()[name] ?? css("--ink"), css("--paper"), css("--ink")];
    const least = luminance(paper) > 0.5 ? 2.2 : 4; // on white they are as in the figures
    for (let share = 0; share < 1; share += 0.1) {
      const tried = mixed(colour, ink, share);
      if (contrast(tried, paper) >= least) return tried;
    }
    return ink;
  };

  // Among very many lines no dash can be seen, and dashes take most of the time to draw.
  const dashOf = (group, width) => (drawn.length > DASHED ? [] : dashesOf(group, width));
  const dashesOf = (group, width) => patternOf(group).map((part) => part * width);
  const valuesOf = (part) => Object.keys(coloursOf(part));

  function patternOf(group) {
    const part = dashing();
    if (part === "method") return report.data.look.dashes[group.method];
    return part ? PATTERNS[valuesOf(part).indexOf(PARTS[part](group))] ?? [] : [];
  }

  /** What dashes stand for: methods; where all have one, what the colours do not tell apart. */
  function dashing() {
    if (new Set(report.groups.map((group) => group.method)).size > 1) return "method";
    return Object.keys(PARTS).toReversed().find((part) => part !== colouring &&
      valuesOf(part).length > 1 && valuesOf(part).length <= PATTERNS.length);
  }

  /** In multiples of the usual width; 1 where widths stand for nothing that the group has. */
  function widthOf(part, group) {
    const values = part ? valuesOf(part) : [];
    const place = values.indexOf(PARTS[part]?.(group));
    return place < 0 ? 1 : THIN + (THICK - THIN) * place / (values.length - 1);
  }

  /** What a line's width stands for: what colours and dashes leave alike. */
  function widening() {
    const told = [colouring, dashing()];
    const looks = (parts) => new Set(report.groups.map((group) => JSON.stringify(parts.map((part) =>
      (part === "method" ? group.method : PARTS[part]?.(group)))))).size;
    return Object.keys(PARTS).toReversed().find((part) =>
      valuesOf(part).length <= PATTERNS.length && looks([...told, part]) > looks(told));
  }

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
    const empty = () => new B.ColumnDataSource({ data: { xs: [], ys: [], colour: [], dash: [],
      width: [] } });
    const dots = () => new B.ColumnDataSource({ data: { x: [], y: [], colour: [] } });
    const curved = (source, alpha) => plot.multi_line({ field: "xs" }, { field: "ys" }, {
      source, line_color: { field: "colour" }, line_dash: { field: "dash" },
      line_width: { field: "width" }, line_alpha: alpha });
    const dotted = (source, size, alpha) => plot.scatter({ field: "x" }, { field: "y" }, {
      source, size, fill_color: { field: "colour" }, line_color: null, fill_alpha: alpha });
    bands = plot.patches({ field: "xs" }, { field: "ys" }, { source: empty(),
      fill_color: { field: "colour" }, fill_alpha: 0.14, line_color: null });
    lines = curved(empty(), 0.9);
    spots = dotted(dots(), 5, 0.9);
    hotLines = curved(empty(), 1);
    hotSpots = dotted(dots(), 8, 1);
    look();
    data();
    fit();
    view = await B.Plotting.show(plot, $("canvas"));
    // The chart around it takes the keyboard; Bokeh's own element would show no focus.
    for (const each of $("canvas").querySelectorAll("*")) each.tabIndex = -1;
    for (const range of [plot.x_range, plot.y_range]) {
      range.change.connect(() => { zoomed ||= !fitting; });
    }
    plot.on_event("mousemove", (event) => point(event));
    plot.on_event("mouseleave", () => leave());
    plot.on_event("doubletap", () => { zoomed = false; fit(); });
    plot.on_event("tap", (event) => {
      const found = nearest(event);
      if (found) open(found.line);
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
        `.swatch[data-${colouring}="${number}"] { background: ${colourOf(name)}; }`),
      `.dash:not([data-part="${dashing()}"], [data-part="${widening()}"]) { display: none; }`]
      .join("\n");
    for (const drawing of document.querySelectorAll(".dash")) {
      const { part } = drawing.dataset;
      const dashes = part === dashing() ? dashesOf(drawing.group, 2).join(" ") : "";
      const width = part === widening() ? 2 * widthOf(part, drawing.group) : 2;
      drawing.firstChild.setAttribute("stroke-dasharray", dashes);
      drawing.firstChild.setAttribute("stroke-width", width);
    }
  }

  /** A mark in a group's colour, whatever that stands for. */
  report.swatch = (group) => {
    const made = el("span", { class: "swatch", "aria-hidden": "true" });
    for (const [name, of] of Object.entries(PARTS)) {
      made.dataset[name] = Object.keys(coloursOf(name)).indexOf(of(group));
    }
    return made;
  };

  /** Linear or logarithmic, with ticks to match and without marks that say nothing. */
  function scale() {
    const B = Bokeh;
    const [x, y] = [plot.below[0], plot.left[0]];
    plot.y_scale = isLog() ? new B.LogScale() : new B.LinearScale();
    const [low, high] = [plot.y_range.start, plot.y_range.end].sort((a, b) => a - b);
    const few = high < 4 * low; // powers of ten would be one tick
    y.ticker = isLog() && !few ? new B.LogTicker({ mantissas: [1, 2, 5] }) : new B.BasicTicker();
    if (isError()) roundErrors(y.ticker);
    plot.center.find((grid) => grid.dimension === 1).ticker = y.ticker;
    y.formatter = new B.BasicTickFormatter({ use_scientific: false });
    if (isError()) y.formatter.doFormat = (errors) => errors.map(shareOf);
    y.axis_label = label().length > LONGEST ? label().replace(", log", ",\nlog") : label();
    x.ticker = new B.BasicTicker({ mantissas: [1, 2, 5], min_interval: 1 });
    plot.center.find((grid) => grid.dimension === 0).ticker = x.ticker;
  }

  const STEPS = [[1], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]; // of round errors in a power of ten
  const FEW_TICKS = 4; // on a log scale, at least; where round errors are fewer they are linear

  /** Ticks at round errors, which Bokeh's logarithmic ones are only over several powers of ten. */
  function roundErrors(ticker) {
    const linear = new Bokeh.BasicTicker();
    ticker.get_ticks_no_defaults = (low, high, ...rest) => {
      const powers = [-3, -2, -1, 0, 1, 2].map((power) => 10 ** power);
      const found = STEPS.map((steps) => powers.flatMap((power) => steps.map((step) => step * power))
        .filter((tick) => tick >= low && tick <= high)).find((own) => own.length >= FEW_TICKS);
      return found ? { major: found, minor: [] } : linear.get_ticks_no_defaults(low, high, ...rest);
    };
  }

  /** The tick of an error: the share of the examples. */
  function shareOf(error) {
    const { whole } = shownAs();
    const isLeast = error <= LEAST_ERROR * whole * 1.001;
    return (isLeast ? "≥ " : "") + Number((whole - error).toFixed(4));
  }

  function label() {
    const sets = [...new Set(report.data.settings.map((each) => each.measured_on))];
    const set = shownAs().set ? `${sets.join(" and ")} ` : "";
    return set + shownAs().axis + (isLog() ? ", log scale" : "") + (isError() ? " of the error" : "");
  }

  const epochs = new Map(); // number of epochs -> 1, 2, …; one list for all curves of a length
  const xs = ({ length }) => {
    if (!epochs.has(length)) epochs.set(length, Array.from({ length }, (_, place) => place + 1));
    return epochs.get(length);
  };
  const ys = (values) => values.map((value) => (usable(value) ? onAxis(value) : NaN));

  // -- what is drawn: means of groups with their intervals, or every run --------------

  const single = (run) => ({ group: run.group, runs: [run], values: curve(run), low: null,
    label: run.label, state: run.state });

  /** One line a group: the mean of its runs that count; what else there is has lines of its own. */
  function averaged(runs) {
    const byGroup = new Map();
    for (const run of runs) {
      if (!byGroup.has(run.group)) byGroup.set(run.group, []);
      byGroup.get(run.group).push(run);
    }
    return [...byGroup].flatMap(([group, own]) => {
      const counted = own.filter((run) => run.status === "done");
      if (counted.length < 2) return own.map(single);
      return [mean(group, counted), ...own.filter((run) => run.status !== "done").map(single)];
    });
  }

  function mean(group, runs) {
    const length = Math.max(...runs.map((run) => curve(run).length));
    const at = Array.from({ length }, (_, place) => {
      const known = runs.map((run) => curve(run)[place] ?? null);
      if (known.includes(null)) return { mean: null, half: 0 };
      const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
      const squares = known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const half = (report.data.reach[known.length] ?? 0) *
        Math.sqrt(squares / (known.length - 1));
      return { mean, half };
    });
    return { group, runs, values: at.map((each) => each.mean), label: group.label,
      state: `mean of n = ${runs.length}`,
      low: at.map((each) => each.mean - each.half), high: at.map((each) => each.mean + each.half) };
  }

  const known = new Map(); // a line's name -> its colour
  const colour = (line) => {
    const name = PARTS[colouring](line.group);
    if (!known.has(name)) known.set(name, colourOf(name));
    return known.get(name);
  };

  function columns(some, width, dash) {
    known.clear();
    const long = some.filter((line) => line.values.length > 1);
    const part = drawn.length > DASHED ? null : widening();
    return {
      many: { xs: long.map((line) => xs(line.values)), ys: long.map((line) => ys(line.values)),
        colour: long.map(colour), dash: long.map((line) => dash(line.group, width)),
        width: long.map((line) => width * widthOf(part, line.group)) },
      dots: (chosen) => {
        const points = chosen.flatMap((line) => line.values.map((value, place) =>
          ({ x: place + 1, y: usable(value) ? onAxis(value) : NaN, colour: colour(line) })));
        return { x: points.map((p) => p.x), y: points.map((p) => p.y),
          colour: points.map((p) => p.colour) };
      },
    };
  }

  const hasInterval = (line) => line.low && line.runs.length >= FEWEST;

  /** The means whose intervals are drawn: none where there are so many that they would cover all. */
  function banded() {
    const found = drawn.filter(hasInterval);
    return found.length > MOST_BANDS ? [] : found;
  }

  /** The intervals of these means: of each the upper edge, and the lower one back. */
  function intervals(some) {
    const wide = some.filter((line) => line.values.length > 1 && line.values.every(usable));
    const edge = (line, limits) => limits.map((limit, place) => (isLog() ?
      Math.max(onAxis(limit), onAxis(line.values[place]) / 10) : limit));
    return { xs: wide.map((line) => [...xs(line.values), ...xs(line.values).toReversed()]),
      ys: wide.map((line) => [...edge(line, line.high), ...edge(line, line.low).toReversed()]),
      colour: wide.map(colour) };
  }

  /** What is drawn follows the filters and what was taken out of the chart. */
  function data() {
    const { hidden } = report.view;
    shown = report.matching().filter((run) => !hidden.has(run.number) && curve(run));
    drawn = $("every-run").checked ? shown.map(single) : averaged(shown);
    const width = drawn.length > FEW ? 1.4 : 2;
    const made = columns(drawn, width, dashOf);
    bands.data_source.data = intervals(banded());
    lines.data_source.data = made.many;
    spots.data_source.data = made.dots(drawn.filter((line) => line.values.length === 1));
    heat();
    $("plot").dataset.runs = shown.length;
    $("plot").setAttribute("aria-label",
      `${label()} over the ${report.data.course}s, ${report.plural(shown.length, "run")}`);
    idle();
  }

  function heat() {
    const hot = new Set(report.view.hot);
    const isHot = (run) => hot.has(run.number);
    // Of a mean some of whose runs are meant, these.
    const chosen = drawn.flatMap((line) =>
      (line.runs.every(isHot) ? [line] : line.runs.filter(isHot).map(single)));
    const made = columns(chosen, 3.2, dashesOf);
    hotLines.data_source.data = made.many;
    hotSpots.data_source.data = made.dots(chosen);
    // Many lines are faint, so that where most of them are can be seen.
    const alpha = Math.max(0.25, Math.min(0.9, 8 / Math.sqrt(drawn.length || 1)));
    const faint = chosen.length ? 0.3 * alpha : alpha;
    lines.glyph.line_alpha = faint;
    spots.glyph.fill_alpha = faint;
    $("plot").dataset.hot = shown.filter(isHot).map((run) => run.number).join(" ");
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
    const longest = Math.max(1, ...drawn.map((line) => line.values.length));
    const from = tail ? Math.ceil((longest + 1) / 2) : 1;
    const values = drawn.flatMap((line) => line.values.slice(from - 1).filter(usable).map(onAxis));
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
      const ends = [low / room, high * room];
      setRange(plot.y_range, ...(isError() ? ends.toReversed() : ends)); // the best is on top
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

  /** The drawn line and epoch that are nearest to a place of the pointer, if any is near. */
  function nearest({ sx, sy }) {
    if (!view) return null;
    const { x_scale, y_scale } = view.frame;
    let best = null;
    let least = NEAR;
    for (const line of drawn) {
      const { values } = line;
      let before = null;
      for (let place = 0; place < values.length; place += 1) {
        if (!usable(values[place])) {
          before = null;
          continue;
        }
        const here = [x_scale.compute(place + 1), y_scale.compute(onAxis(values[place]))];
        const far = before ? toSegment(sx, sy, before, here) : Math.hypot(sx - here[0], sy - here[1]);
        if (far < least) {
          least = far;
          const back = before && sx - before[0] < here[0] - sx;
          best = { line, epoch: back ? place : place + 1 };
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

  const numbers = (line) => line.runs.map((run) => run.number);

  const revealSoon = report.later((line) => {
    if (report.view.hot.join() === numbers(line).join()) report.table.reveal(line.runs[0].number, false);
  }, 200);

  /** What a line stands for: the run, or its group's runs in the table. */
  function open(line) {
    if (line.runs.length === 1) report.details(line.runs[0]);
    else report.table.reveal(line.runs[0].number, true);
  }

  function point(event) {
    const found = nearest(event);
    if (!found) return leave();
    at = found;
    report.highlight(numbers(found.line));
    tell(found, false);
    revealSoon(found.line);
    return undefined;
  }

  function leave() {
    $("tip").hidden = true;
    if (document.activeElement === $("plot")) return;
    at = null;
    report.highlight([]);
    idle();
  }

  function sentence({ line, epoch }) {
    const { name, unit, digits } = shownAs();
    const value = line.values[epoch - 1];
    const number = (each) => (digits ? report.fixed(each, digits) : report.short(each));
    let told = value === null ? "no finite value" : number(value) + (unit === "%" ? unit :
      unit && unit !== name ? ` ${unit}` : "");
    if (value !== null && hasInterval(line)) {
      told += ` (${number(line.low[epoch - 1])} to ${number(line.high[epoch - 1])})`;
    }
    const state = line.state === "done" ? "" : `, ${line.state}`;
    return { title: line.label + state, text: `${report.data.course} ${epoch}: ${name} ${told}` };
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
    const value = place.line.values[place.epoch - 1];
    const x = view.frame.x_scale.compute(place.epoch);
    const y = usable(value) ? view.frame.y_scale.compute(onAxis(value)) : 0;
    const box = $("plot");
    const { clientWidth: width, clientHeight: height } = box;
    tip.style.left = `${Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 4))}px`;
    const above = y - tip.offsetHeight - 14;
    tip.style.top = `${Math.max(4, Math.min(above < 4 ? y + 16 : above,
      height - tip.offsetHeight - 4))}px`;
  }

  function idle() {
    const means = drawn.filter((line) => line.low).length;
    const whole = drawn.filter(hasInterval).length;
    const single = drawn.length - means;
    const withBands = banded().length ? " with 95% intervals (Student's t)" : "";
    const told = [whole && report.plural(whole, "mean") + withBands,
      means > whole && report.plural(means - whole, "mean of two runs", "means of two runs"),
      (single || !means) && report.plural(single, "single run")].filter(Boolean).join(" and ");
    const left = [
      means > whole && " Intervals of two runs are wider than any panel and are left out.",
      whole > MOST_BANDS && ` Intervals are drawn where there are ${MOST_BANDS} means or fewer.`];
    $("told").textContent = shown.length
      ? [`${told}, of ${report.plural(report.runs.length, "run")}.`, ...left.filter(Boolean)].join("")
      : "No run that is shown has a curve.";
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !plot) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "+" || event.key === "=") zoom(0.7);
    else if (event.key === "-") zoom(1 / 0.7);
    else if (event.key === "0") { zoomed = false; fit(); }
    else if (event.key === "Enter" && at) open(at.line);
    else if ((step || along) && drawn.length) move(step ?? 0, along ?? 0);
    else return;
    event.preventDefault();
  }

  function move(step, along) {
    const place = at ? drawn.indexOf(at.line) : -1;
    const next = place < 0 ? (step < 0 ? drawn.length - 1 : 0) :
      (place + step + drawn.length) % drawn.length;
    const line = drawn[next];
    const last = line.values.length;
    const epoch = at ? Math.max(1, Math.min(last, at.epoch + along)) : last;
    at = { line, epoch };
    report.highlight(numbers(line));
    tell(at, true);
    report.table.reveal(line.runs[0].number, false);
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

  /** A piece of a group's line, shown in the legend of what dashes stand for. */
  function dashSample(part, group) {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    const line = document.createElementNS(space, "line");
    for (const [name, value] of Object.entries({ viewBox: "0 0 30 8", width: 30, height: 8,
      "aria-hidden": "true", class: "dash", "data-part": part })) drawing.setAttribute(name, value);
    for (const [name, value] of Object.entries({ x1: 0, y1: 4, x2: 30, y2: 4,
      stroke: "currentColor" })) line.setAttribute(name, value);
    drawing.append(line);
    drawing.group = group;
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
    scaled = false;
    const { log, whole } = shownAs();
    $("log").disabled = log === undefined && whole === undefined;
    $("log-label").hidden = $("log").disabled;
    suit();
  }

  /** Of shares the log scale suits where one bad value would squeeze all others, as in the figures. */
  function suit() {
    const { log, whole } = shownAs();
    $("log").checked = log === true;
    if (whole === undefined) return;
    let [least, most] = [Infinity, -Infinity];
    for (const value of report.data.curves[measure].flatMap((values) => values ?? [])) {
      if (value === null) continue;
      least = Math.min(least, error(value));
      most = Math.max(most, error(value));
    }
    $("log").checked = most >= WIDE * least;
  }

  function controls() {
    report.data.axes.forEach(({ name }, place) => {
      PARTS[`axis${place}`] = (group) => group.axes[name] ?? "";
    });
    measures();
    $("zoom-end").textContent = `Last ${report.data.course}s`;
    $("measure").addEventListener("change", () => {
      chosen = true;
      choose($("measure").value);
      redraw();
    });
    $("log").addEventListener("change", () => {
      scaled = true;
      redraw();
    });
    const only = (part, group) => {
      const made = report.swatch(group);
      for (const other of Object.keys(PARTS)) if (other !== part) delete made.dataset[other];
      return made;
    };
    const sample = (part, group) => [only(part, group), dashSample(part, group)];
    legend("by-optimizer", (run) => run.group.optimizer, (group) => sample("optimizer", group));
    legend("by-method", (run) => run.group.kind,
      (group) => sample("method", group));
    legend("by-target", (run) => run.group.target || "dense", (group) => sample("target", group));
    report.data.axes.forEach(({ name, heading }, place) => {
      const id = `by-axis${place}`;
      $("legends").append(el("div", { class: "legend", role: "group", id,
        "aria-label": `Values of ${heading} in the chart` }, el("span", {}, heading)));
      legend(id, (run) => run.group.axes[name] || "none", (group) => sample(`axis${place}`, group));
    });
    // Colours say most where they tell something apart.
    const telling = Object.keys(PARTS).filter((name) => Object.keys(coloursOf(name)).length > 1);
    const most = (one, other) => (Object.keys(coloursOf(other)).length >
      Object.keys(coloursOf(one)).length ? other : one);
    colouring = telling.find((name) => !name.startsWith("axis")) ??
      telling.reduce(most, telling[0]) ?? "optimizer";
    const named = (part) => report.data.axes[part.replace("axis", "")]?.heading ?? part;
    $("colour").append(...telling.map((name) => el("option", { value: name }, named(name))));
    $("every-run").addEventListener("change", redraw);
    $("every-run-label").hidden = !report.grouped;
    $("colour").value = colouring;
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
    if (!scaled && !zoomed) suit();
    if (measure === before) update();
    else redraw();
    if (!at) return;
    const same = drawn.find((line) => numbers(line).join() === numbers(at.line).join());
    if (same && at.epoch <= same.values.length) {
      at = { ...at, line: same };
      tell(at, false);
    }
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
