// What language models wrote, as text; runs without a sample have none here.

report.sample = (text) => report.el("pre", { tabindex: 0, "aria-label": "Sample" }, text);

report.showSamples = () => {
  const { el, $ } = report;
  const written = report.runs.filter((run) => report.data.samples[run.number]);
  $("samples").hidden = !written.length;
  $("sample-list").replaceChildren(...written.map((run, place) =>
    el("details", { open: place === 0 }, el("summary", {}, run.label),
      report.sample(report.data.samples[run.number]))));
};
