// Which rows of a long table are in the document: a part of them, around what is in sight.
// Laying out a table takes longer the more rows it has; blank space stands for the others.

/** `rowAt(index)` makes a row or finds it, and `left(index)` forgets it. `moved(lost)` is called
 * once other rows are there; `lost`: the keyboard was in one that is not.
 */
report.rowWindow = ({ table, frame, rowAt, left, moved }) => {
  const { el } = report;
  const AT_ONCE = 60; // rows that are made before anything else can happen, and ahead of sight
  const MOST = 500; // rows in the document
  const body = table.tBodies[0];
  const blank = () =>
    el("tr", { "aria-hidden": "true" }, el("td", { class: "blank", colspan: 99 }));
  const [above, below] = [blank(), blank()];
  let length = 0; // rows that the whole table has
  let [from, until] = [0, 0]; // those of them that are in the document
  let height = 30; // of a row

  /** Rows that stay are not touched: the keyboard may be in one. */
  function put(first, end) {
    const wasInside = body.contains(document.activeElement);
    for (; from < until && from < first; from += 1) leave(body.firstChild, from);
    for (; from < until && until > end; until -= 1) leave(body.lastChild, until - 1);
    if (from === until) from = until = first;
    const made = (start, stop) =>
      Array.from({ length: Math.max(0, stop - start) }, (_, place) => rowAt(start + place));
    body.prepend(...made(first, from));
    body.append(...made(until, end));
    [from, until] = [first, end];
    space();
    moved(wasInside && !body.contains(document.activeElement));
  }

  function leave(row, index) {
    row.remove();
    left(index);
  }

  /** Blank first, then measured: a table that is too short for a moment would be scrolled back. */
  function space() {
    const spread = () => {
      stretch(above, table.tHead, from);
      stretch(below, table.tFoot ?? table.createTFoot(), length - until);
    };
    spread();
    if (until === from || length === until - from) return;
    const measured = body.offsetHeight / (until - from);
    if (measured === height) return;
    height = measured;
    spread();
  }

  function stretch(row, part, count) {
    row.firstChild.style.height = `${count * height}px`;
    if (!count) row.remove();
    else if (!row.isConnected) part.append(row);
  }

  /** Have this row in the document, and what is around it. */
  function bring(index) {
    if (index < 0 || (index >= from && index < until)) return;
    if (index >= until && index < from + MOST) return put(from, index + 1);
    const first = Math.max(0, Math.min(index - MOST / 2, length - MOST));
    return put(first, Math.min(length, first + MOST));
  }

  /** What is scrolled into sight is there, with as much on either side as there is room for. */
  function follow() {
    const first = Math.min(length - 1, Math.floor(frame.scrollTop / height));
    const last = Math.min(length, first + Math.ceil(frame.clientHeight / height) + 1);
    const near = AT_ONCE / 2;
    const isShort = (from > 0 && first - near < from) || (until < length && last + near > until);
    if (!isShort) return;
    let start = Math.max(0, first - 2 * AT_ONCE);
    let end = Math.min(length, last + 2 * AT_ONCE);
    if (first < until && last > from) { // what is there stays, as much as may
      const isUp = start < from;
      [start, end] = [Math.min(start, from), Math.max(end, until)];
      if (isUp) end = Math.min(end, start + MOST);
      else start = Math.max(start, end - MOST);
    }
    put(start, end);
  }

  /** Other rows, or in another order; `kept`: at the same place. */
  function fill(count, kept) {
    const [first, end] = kept ? [from, until] : [0, 0];
    body.replaceChildren();
    from = until = 0;
    length = count;
    const start = Math.max(0, Math.min(first, length - (end - first)));
    put(start, Math.min(length, Math.max(end, start + AT_ONCE)));
    grow();
  }

  /** More rows, a part at a time, once the chart is there. */
  const grow = report.later(() => {
    if (until >= length || until - from >= MOST) return;
    if ("ready" in document.documentElement.dataset) {
      put(from, Math.min(length, from + MOST, until + AT_ONCE));
    }
    grow();
  }, 30);

  frame.addEventListener("scroll", follow, { passive: true });
  return { bring, fill, MOST, get range() { return [from, until]; } };
};
