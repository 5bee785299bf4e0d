// The order in which the page comes to life: what can be read first, the chart last.

report.theme = (() => {
  const KEY = "adamwprune-theme";
  const names = ["system", "light", "dark"];
  const root = document.documentElement;
  let chosen = "system";

  function apply() {
    if (chosen === "system") delete root.dataset.theme;
    else root.dataset.theme = chosen;
    report.$("theme").textContent = `Theme: ${chosen}`;
    report.chart.recolour();
  }

  function start() {
    try {
      chosen = names.find((name) => name === localStorage.getItem(KEY)) ?? "system";
    } catch { /* not every browser lets a file keep something */ }
    report.$("theme").addEventListener("click", () => {
      chosen = names[(names.indexOf(chosen) + 1) % names.length];
      try {
        localStorage.setItem(KEY, chosen);
      } catch { /* then it is for this visit */ }
      apply();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
    apply();
  }

  return { start };
})();

report.subject = () => {
  const told = [...report.count(report.runs)].map(([name, count]) => `, ${count} ${name}`).join("");
  const titles = report.data.settings.map((each) => each.title);
  const where = titles.length > 2 ? `${titles.length} settings` : titles.join("; ");
  report.$("subject").textContent =
    `${where ? `${where}: ` : ""}${report.plural(report.runs.length, "run")}${told}`;
};

report.read(JSON.parse(report.$("data").textContent));
report.addFacets();
report.subject();
report.showVerdicts();
report.showSamples();
report.chart.controls();
report.table.start();
report.parallel.start();
report.listenDetails();
report.theme.start();
performance.mark("report:readable");

/** After the charting library. */
report.start = async () => {
  await report.chart.start();
  document.documentElement.dataset.ready = "";
  performance.mark("report:ready");
  setTimeout(() => { // far down the page: after the chart is painted
    report.compare.start();
    report.live?.start();
  });
};
