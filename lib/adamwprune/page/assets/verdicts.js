// What may be said about the runs, in sentences and in a table.

report.showVerdicts = () => {
  const { el, $, data } = report;
  const { counts, lines, headings, rows, caption } = data.verdicts;
  const SENTENCES = 12;
  const total = rows.length;
  const opened = $("sentences").querySelector("details")?.open ?? false;
  $("counts").replaceChildren();
  $("sentences").replaceChildren();
  $("comparisons").hidden = !total;
  const signs = { better: "▲", worse: "▼", tied: "=", "too few seeds": "…", refused: "✕" };
  for (const [name, count] of Object.entries(counts)) {
    if (count) {
      const kind = name.replaceAll(" ", "-");
      const sign = el("span", { "aria-hidden": "true" }, `${signs[name]} `);
      $("counts").append(el("li", { class: `chip ${kind}` }, sign, `${count} ${name}`));
    }
  }
  $("sentences").append(...paragraphs(data.best));
  if (!total && !data.best.length) {
    $("sentences").append(el("p", {}, "Nothing is compared: there are no two groups of runs " +
      "without pruning, and no two pruning methods of one optimizer at one target."));
  }
  // Who won, or was refused, stands first: of very many the rest can be opened.
  const own = counts.better + counts.worse + counts.refused;
  if (own > SENTENCES) {
    const more = el("summary", {}, `${own - SENTENCES} more like these`);
    $("sentences").append(...paragraphs(lines.slice(0, SENTENCES)),
      el("details", { open: opened }, more, ...paragraphs(lines.slice(SENTENCES, own))),
      ...paragraphs(lines.slice(own)));
  } else $("sentences").append(...paragraphs(lines));
  if (!total) return;
  $("comparisons").querySelector("summary").textContent =
    total === 1 ? "The comparison as a table" : `All ${total} comparisons as a table`;
  $("comparisons").querySelector(".note").textContent = caption;
  let made = false;
  $("comparisons").ontoggle = () => {
    if (made || !$("comparisons").open) return;
    made = true;
    $("comparisons").querySelector(".scroll").replaceChildren(table(headings, rows));
  };
  $("comparisons").ontoggle();

  function paragraphs(lines) {
    const made = [];
    for (const line of lines) {
      if (line.command) made.push(report.command(line.text));
      else {
        if (made.at(-1)?.tagName !== "UL") made.push(el("ul", { class: "sentences" }));
        made.at(-1).append(el("li", {}, line.text));
      }
    }
    return made;
  }

  function table(headings, rows) {
    const several = new Set(rows.map((row) => row.setting)).size > 1;
    const kindOf = (place) => (place > 1 && place < headings.length - 1 ? "number" : null);
    const head = headings.map((each, place) =>
      el("th", { scope: "col", class: kindOf(place) }, each || "runs"));
    const body = el("tbody");
    let setting = null;
    for (const row of rows) {
      if (several && row.setting !== setting) {
        setting = row.setting;
        body.append(el("tr", {}, el("th", { colspan: headings.length, scope: "rowgroup",
          class: "part" }, setting)));
      }
      const kind = row.verdict.replaceAll(" ", "-");
      body.append(el("tr", {}, ...row.cells.map((cell, place) => {
        if (place === 0) return el("th", { scope: "row" }, cell);
        const own = place === row.cells.length - 1 ? `verdict ${kind}` : kindOf(place);
        return el("td", { class: own }, cell);
      })));
    }
    return el("table", { class: "plain" }, el("thead", {}, el("tr", {}, ...head)), body);
  }
};
