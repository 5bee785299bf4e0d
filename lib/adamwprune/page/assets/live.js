// Of the page that make watch serves: asks every other second what has changed, and puts it into
// the page. What the user has sorted, filtered, chosen, opened, zoomed or scrolled stays.

/** Seconds as a clock shows them: `4:05`, `1:04:05`. */
report.clock = (seconds) => {
  const all = Math.round(seconds);
  const pad = (part) => String(part).padStart(2, "0");
  const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(all % 60)}` : `${minutes}:${pad(all % 60)}`;
};

/** How far a run in hand is, in words. */
report.progress = ({ now }) => {
  if (!now.steps) return now.status === "running" ? "it has not said yet how far it is" : now.status;
  const running = now.status === "running";
  return [
    now.epoch && `epoch ${now.epoch} of ${now.epochs}`,
    `step ${report.thousands(now.step)} of ${report.thousands(now.steps)}`,
    now.trained,
    running && now.rate && `${report.short(now.rate)} steps/s`,
    running && now.left !== null && `${report.clock(now.left)} left`,
    running && now.device,
    now.updated && `said at ${new Date(1000 * now.updated).toLocaleTimeString()}`,
  ].filter(Boolean).join(", ");
};

report.live = (() => {
  const { el, $ } = report;
  const EVERY = 2000; // milliseconds from an answer to the next question
  const PATIENCE = 10000; // milliseconds after which there will be no answer
  const { look, page } = report.data;
  let values = report.data; // the report's, as they came
  let version = report.data.version; // which they are
  let tag = ""; // of the last answer
  let drawn = ""; // which curves are
  let note = ""; // of what the server stumbles over
  let waiting = 0;
  const told = el("span", { id: "live-told", role: "status" });
  const since = el("span", { id: "live-since" });
  const standing = el("span", { id: "live-standing" });

  /** What is there, or null where it is what the page has; an error where there is no answer. */
  async function ask(address, known) {
    const answer = await fetch(address, { headers: { "If-None-Match": known }, cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 304) return null;
    if (!answer.ok) throw new Error(`${answer.status}`);
    return { plain: await answer.json(), tag: answer.headers.get("ETag") };
  }

  async function poll() {
    clearTimeout(waiting);
    if (document.hidden) return; // asked again once it is looked at
    try {
      const found = await ask("live.json", tag);
      if (found) await take(found);
      say(note ? "noted" : "", note);
    } catch (error) {
      say("gone", "make watch does not answer: it was stopped, or cannot be reached. The page " +
        "shows what it last said, and goes on when it is back.");
    }
    clearTimeout(waiting);
    waiting = setTimeout(poll, EVERY);
  }

  async function take({ plain, tag: now }) {
    if (plain.page !== page) { // of another configuration, or by another version
      location.reload();
      return;
    }
    const isNew = plain.report !== version;
    if (isNew) {
      const found = await ask("report.json", "");
      values = found.plain;
      version = JSON.parse(found.tag);
    }
    tag = version === plain.report ? now : ""; // otherwise it has moved on: ask at once
    put(plain.runs, plain.measures, isNew);
    stand(plain.left);
    since.textContent = `· changed at ${new Date().toLocaleTimeString()}`;
    note = plain.note;
  }

  /** Everything that shows something says what is known now. */
  function put(inHand, measures, isNew) {
    const curves = {};
    for (const name of Object.keys(measures)) {
      curves[name] = values.curves[name]?.slice() ?? values.runs.map(() => null);
      for (const [run, now] of Object.entries(inHand)) {
        curves[name][run] = now.curves[name] ?? curves[name][run];
      }
    }
    report.read({ ...values, measures, curves, look }, inHand);
    report.subject();
    if (isNew) report.showVerdicts();
    if (isNew) report.showSamples();
    report.table.refresh();
    report.parallel.refresh();
    const which = version + JSON.stringify(Object.entries(inHand).map(([n, r]) => [n, r.curves]));
    if (which !== drawn) report.chart.refresh();
    drawn = which;
    report.compare.refresh(isNew);
    report.refreshDetails();
  }

  /** How many runs are where, and when all will be done: above the page and in its title. */
  function stand(left) {
    const counts = report.count(report.runs);
    const done = counts.get("done") ?? 0;
    const eta = left && `${report.clock(left.p50)} left (P90 ${report.clock(left.p90)})`;
    standing.textContent = [`${done} of ${report.runs.length} done`,
      counts.has("running") && `${counts.get("running")} running`, eta].filter(Boolean).join(", ");
    const short = left ? `, ${report.clock(left.p50)} left` : "";
    document.title = `${done}/${report.runs.length} done${short} – AdamWPrune`;
  }

  function say(kind, text) {
    $("live").className = kind;
    if (told.textContent !== text) told.textContent = text;
  }

  function start() {
    $("subject").after(el("p", { id: "live" }, told, " ", standing, " ", since));
    document.addEventListener("visibilitychange", poll);
    poll();
  }

  return { start };
})();
