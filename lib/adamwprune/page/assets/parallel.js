// Parallel coordinates: an axis for every option in which the runs differ, and one for the score.

report.parallel = (() => {
  const { $ } = report;
  const [HEIGHT, TOP] = [260, 46]; // pixels: of an axis, above the axes
  const [LEAST, MOST, RIGHT] = [46, 160, 56]; // pixels beside the axes
  const [NEAR, FAR] = [70, 230]; // pixels from axis to axis
  const LETTER = 9; // pixels of a name's letter
  let width = NEAR; // from axis to axis
  let groups = []; // those with a score
  let paths = new Map(); // group -> its line

  function svg(tag, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  /** The options that have several values, in the order of the table, and what a group has. */
  function options() {
    const all = [
      ["optimizer", "optimizer", (group) => group.optimizer],
      ["method", "method", (group) => group.kind],
      ["target", "target", (group) => group.target || "dense"],
      ...report.data.axes.map(({ name, heading }) =>
        [name, heading, (group) => group.axes[name] || "none"]),
    ];
    return all.map(([facet, heading, of]) => {
      const order = report.data.axes.find(({ name }) => name === facet)?.values;
      const values = [...new Set(groups.map(of))].sort(order ?
        (one, other) => order.indexOf(one) - order.indexOf(other) : report.byText);
      return { facet, heading, of, values };
    }).filter(({ values }) => values.length > 1);
  }

  function draw() {
    groups = report.groups.filter((group) => group.score !== null);
    const axes = options();
    const metrics = new Set(groups.map((group) => group.metric));
    $("axes").hidden = !report.data.axes.length || axes.length < 2 || metrics.size !== 1;
    if ($("axes").hidden) return;
    const scores = groups.map((group) => group.score);
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    const longest = Math.max(...axes[0].values.map((value) => value.length));
    const side = Math.max(LEAST, Math.min(MOST, 12 + longest * LETTER));
    const room = ($("axes").clientWidth - 30 - side - RIGHT) / axes.length;
    width = Math.max(NEAR, Math.min(FAR, room));
    const x = (place) => side + place * width;
    const y = (part) => TOP + (1 - part) * HEIGHT;
    const along = ({ values, of }, group) => y(values.length < 2 ? 0.5 :
      values.indexOf(of(group)) / (values.length - 1));
    const share = (score) => (high > low ? (score - low) / (high - low) : 0.5);
    const size = { width: side + RIGHT + axes.length * width, height: TOP + HEIGHT + 24 };
    const root = svg("svg", { ...size, role: "group", "aria-label": "Groups along the axes" });
    paths = new Map(groups.map((group) => {
      const points = [...axes.map((axis, place) => [x(place), along(axis, group)]),
        [x(axes.length), y(share(group.score))]];
      const line = svg("path", { class: "line", d: curve(points),
        stroke: ramp(report.data.metrics[group.metric].better === "lower" ?
          1 - share(group.score) : share(group.score)) });
      line.append(svg("title", {}, `${group.label}: ${group.score_text}`));
      line.addEventListener("pointerenter", () => report.highlight(group.runs));
      line.addEventListener("pointerleave", () => report.highlight([]));
      line.addEventListener("click", () => report.table.reveal(group.runs[0], true));
      return [group, line];
    }));
    root.append(...paths.values(), ...axes.flatMap((axis, place) => values(axis, x(place), y)),
      ...scale(x(axes.length), y, low, high));
    $("parallel").replaceChildren(root);
    show();
  }

  /** From axis to axis level at both ends, so that lines through one value can be followed. */
  const curve = (points) => points.map(([x, y], place) => {
    if (!place) return `M${x} ${y}`;
    const [bx, by] = points[place - 1];
    const middle = (bx + x) / 2;
    return `C${middle} ${by} ${middle} ${y} ${x} ${y}`;
  }).join("");

  /** From blue over grey to orange, which can be told apart on light and dark and by everyone. */
  function ramp(share) {
    const [from, middle, to] = [[62, 124, 201], [150, 150, 150], [217, 119, 6]];
    const [a, b, part] = share < 0.5 ? [from, middle, 2 * share] : [middle, to, 2 * share - 1];
    return `rgb(${a.map((each, i) => Math.round(each + (b[i] - each) * part)).join(" ")})`;
  }

  /** An axis's name: a long one on two lines, beside which others have room. */
  function title(heading, x) {
    const middle = heading.length / 2;
    const spaces = [...heading.matchAll(" ")].map(({ index }) => index);
    const at = heading.length * LETTER > width ? spaces.toSorted((one, other) =>
      Math.abs(one - middle) - Math.abs(other - middle))[0] : undefined;
    const lines = at ? [heading.slice(0, at), heading.slice(at + 1)] : [heading];
    return svg("text", { class: "heading", "text-anchor": "middle" }, ...lines.map((line, place) =>
      svg("tspan", { x, y: TOP - 20 - 15 * (lines.length - 1 - place) }, line)));
  }

  function values({ facet, heading, values }, x, y) {
    const label = (value, part) => {
      const text = svg("text", { x: x - 8, y: y(part) + 4, class: "value", role: "button",
        tabindex: 0, "text-anchor": "end", "data-facet": facet, "data-value": value,
        "aria-label": `${heading} ${value}` }, value);
      text.addEventListener("click", () => choose(facet, value));
      text.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        choose(facet, value);
        event.preventDefault();
      });
      return text;
    };
    return [
      svg("line", { class: "axis", x1: x, x2: x, y1: y(0), y2: y(1) }),
      title(heading, x),
      ...values.map((value, place) => label(value, place / (values.length - 1))),
    ];
  }

  function scale(x, y, low, high) {
    const heading = report.data.metrics[groups[0].metric].heading;
    const digits = high - low < 1 ? 3 : 1;
    return [
      svg("line", { class: "axis", x1: x, x2: x, y1: y(0), y2: y(1) }),
      title(heading, x),
      ...[0, 0.5, 1].map((part) => svg("text", { x: x + 8, y: y(part) + 4, class: "tick-text" },
        report.fixed(low + part * (high - low), digits))),
    ];
  }

  function choose(facet, value) {
    const { facets } = report.view;
    facets[facet] = facets[facet] === value ? "" : value;
    report.tell("filter");
  }

  /** Groups that the filters leave, and values that are asked for. */
  function show() {
    if ($("axes").hidden) return;
    const left = new Set(report.matching().map((run) => run.group));
    const hot = new Set(report.view.hot);
    for (const [group, line] of paths) {
      line.classList.toggle("off", !left.has(group));
      const isHot = hot.size > 0 && group.runs.some((run) => hot.has(run));
      line.classList.toggle("hot", isHot);
    }
    for (const text of $("parallel").querySelectorAll(".value")) {
      const { facet, value } = text.dataset;
      text.setAttribute("aria-pressed", String(report.view.facets[facet] === value));
    }
  }

  function start() {
    draw();
    report.on("filter", show);
    report.on("hot", show);
    addEventListener("resize", report.later(draw, 150));
  }

  return { start, refresh: draw };
})();
