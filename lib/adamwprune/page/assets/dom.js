"use strict";
// Everything of the page's own is in one object; whatever a record says becomes text, never HTML.
const report = {};

/** An element with attributes and children; a text stays a text. */
report.el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, String(value));
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

report.$ = (id) => document.getElementById(id);

report.button = (label, act, attributes = {}) => {
  const made = report.el("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", act);
  return made;
};

/** A line to be typed, and a button that copies it. */
report.command = (line) => {
  const copy = report.button("Copy", () => report.copy(line, copy), {
    class: "copy", "aria-label": `Copy: ${line}`,
  });
  return report.el("div", { class: "command" }, report.el("code", {}, line), copy);
};

report.copy = async (line, button) => {
  try {
    await navigator.clipboard.writeText(line);
    button.textContent = "Copied";
  } catch {
    // Without permission the line is selected: Ctrl-C copies it.
    const range = document.createRange();
    range.selectNodeContents(button.previousSibling);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
};

report.plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

// Made once: each of its own takes longer than the cell it is for.
const whole = new Intl.NumberFormat("en-US");
const oneDigit = new Intl.NumberFormat("en-US", {
  minimumFractionDigits: 1, maximumFractionDigits: 1,
});

// Words with numbers in them, by the numbers' size.
report.byText = new Intl.Collator("en", { numeric: true }).compare;

report.thousands = (value) => (value === null || value === undefined ? "" : whole.format(value));

report.kib = (size) =>
  size === null || size === undefined ? "" : oneDigit.format(size / 1024);

report.fixed = (value, digits) =>
  value === null || value === undefined ? "" : value.toFixed(digits);

/** As many digits as mean something, without an exponent where that is possible. */
report.short = (value) =>
  value === null || value === undefined ? "" : String(Number(value.toPrecision(4)));

/** At most once a delay, after the last call. */
report.later = (act, delay) => {
  let waiting = 0;
  return (...given) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => act(...given), delay);
  };
};
