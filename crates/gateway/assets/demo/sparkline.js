// Small charts of the last minute as SVG. It owns the drawing; the samples are the caller's.

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 120;
const HEIGHT = 36;
const PAD = 2;

/** How much time a chart shows. */
export const WINDOW_MS = 60_000;

function svg(tag, attributes) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A chart of one or more lines; `draw(now, series, max)` with series as arrays of `[time, value]`. */
export class Sparkline {
  #areas = [];
  #lines = [];
  #dots = [];

  constructor(lines = 1) {
    this.node = svg("svg", {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.node.append(svg("line", { class: "spark-base", x1: 0, x2: WIDTH, y1: HEIGHT - PAD, y2: HEIGHT - PAD }));
    for (let index = 0; index < lines; index += 1) {
      const group = svg("g", { class: `spark-line spark-line-${index}` });
      this.#areas.push(svg("path", { class: "spark-area" }));
      this.#lines.push(svg("path", { class: "spark-stroke" }));
      this.#dots.push(svg("path", { class: "spark-dot" }));
      group.append(this.#areas[index], this.#lines[index], this.#dots[index]);
      this.node.append(group);
    }
  }

  draw(now, series, max) {
    series.forEach((samples, index) => {
      const points = [];
      for (const [time, value] of samples) {
        const age = now - time;
        if (age > WINDOW_MS) continue;
        const x = WIDTH - PAD - (Math.max(0, age) / WINDOW_MS) * (WIDTH - PAD);
        const share = Math.min(1, Math.max(0, value / max));
        points.push([x.toFixed(2), (HEIGHT - PAD - share * (HEIGHT - 2 * PAD)).toFixed(2)]);
      }
      this.#drawLine(index, points);
    });
  }

  #drawLine(index, points) {
    if (points.length === 0) {
      for (const path of [this.#areas[index], this.#lines[index], this.#dots[index]]) path.setAttribute("d", "");
      return;
    }
    const line = points.map(([x, y], at) => `${at === 0 ? "M" : "L"}${x} ${y}`).join("");
    const [firstX] = points[0];
    const [lastX, lastY] = points[points.length - 1];
    this.#lines[index].setAttribute("d", line);
    this.#areas[index].setAttribute("d", `${line}L${lastX} ${HEIGHT - PAD}L${firstX} ${HEIGHT - PAD}Z`);
    // A line of no length with round ends stays a circle, however the chart is stretched.
    this.#dots[index].setAttribute("d", `M${lastX} ${lastY}h0`);
  }
}
