"use strict";
/* Charts that can be looked into: drag to zoom, buttons to hide a curve or to go back, values at the pointer.
   Without this script the same charts stand in the page as SVG, and on paper they always do. */

(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const HEIGHT = 300;
  const live = [];

  /** A colour of the page, as it is now. */
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  /** Digits that a person reads. */
  function told(value, digits = 7) {
    if (value == null || !Number.isFinite(value)) return "none";
    const text = String(Number(value.toPrecision(digits)));
    return text.replace("-", "\u2212");
  }

  function element(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text) made.textContent = text;
    return made;
  }

  /** Bars of one sigma, and limits: drawn over the curves of a plot. */
  function over(chart) {
    return (plot) => {
      const { ctx } = plot;
      const { left, top, width, height } = plot.bbox;
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      chart.series.forEach((one, place) => {
        if (!one.sigma || !plot.series[place + 1].show) return;
        ctx.strokeStyle = colour(`c${one.colour}`);
        ctx.lineWidth = devicePixelRatio;
        ctx.beginPath();
        one.x.forEach((x, i) => bar(plot, ctx, x, one.y[i], one.sigma[i], chart.ylog));
        ctx.stroke();
      });
      ctx.strokeStyle = ctx.fillStyle = colour("fail");
      ctx.setLineDash([6, 5]);
      for (const [value] of chart.levels) {
        const y = plot.valToPos(value, "y", true);
        ctx.beginPath();
        ctx.moveTo(left, y);
        ctx.lineTo(left + width, y);
        ctx.stroke();
      }
      ctx.restore();
    };
  }

  function bar(plot, ctx, x, y, sigma, log) {
    if (sigma == null) return;
    const low = log ? Math.max(y - sigma, y / 100) : y - sigma;
    const at = plot.valToPos(x, "x", true);
    ctx.moveTo(at, plot.valToPos(low, "y", true));
    ctx.lineTo(at, plot.valToPos(y + sigma, "y", true));
  }

  /** The nearest point of each curve to the pointer, in words. */
  function reading(chart, plot) {
    const { idx, left } = plot.cursor;
    if (idx == null || left < 0) return "";
    const near = (k) => {
      const values = plot.data[k];
      for (let away = 0; away < values.length; away++) {
        for (const i of [idx - away, idx + away]) if (values[i] != null) return i;
      }
      return null;
    };
    const shown = chart.series.map((one, k) => ({ one, k })).filter(({ one, k }) => !one.line && plot.series[k + 1].show);
    const some = (shown.length ? shown : chart.series.map((one, k) => ({ one, k }))).slice(0, 6);
    return some
      .map(({ one, k }) => {
        const i = near(k + 1);
        if (i == null) return "";
        const x = chart.time ? new Date(plot.data[0][i] * 1000).toISOString().slice(0, 16) + "Z" : told(plot.data[0][i]);
        return `${chart.names[one.name]}: ${told(plot.data[k + 1][i])} at ${x}`;
      })
      .filter(Boolean)
      .join(" · ");
  }

  /** Ticks of a time, UTC: days, or hours where there are few days. */
  function dates(plot, splits) {
    const days = (plot.scales.x.max - plot.scales.x.min) / 86400;
    return splits.map((one) => {
      const text = new Date(one * 1000).toISOString();
      return days > 2 ? text.slice(0, 10) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
    });
  }

  function settings(chart, width, say) {
    const ink = colour("ink");
    const axis = (label, more) => ({
      label, stroke: ink, labelSize: 26, labelFont: "13px system-ui, sans-serif", font: "12px system-ui, sans-serif",
      values: (plot, splits) => splits.map((one) => (one == null ? "" : told(one, 10))),
      grid: { stroke: colour("rule"), width: 1 }, ticks: { stroke: colour("rule"), width: 1 }, ...more,
    });
    const [low, high] = chart.reach;
    const room = 0.06 * (high - low) || 0.05 * Math.abs(high) || 1;
    const beside = (from, to) => 0.04 * (to - from) || 0.05 * Math.abs(to) || 1;
    const across = chart.xlog ? {} : {
      range: (plot, from, to) => (zoomed(plot) ? [from, to] : [from - beside(from, to), to + beside(from, to)]),
    };
    const range = chart.ylog ? {} : { range: (plot, from, to) => zoomed(plot) ? [from, to] : [low - room, high + room] };
    return {
      width, height: HEIGHT, legend: { show: false }, cursor: { drag: { x: true, y: true, uni: 20 }, focus: { prox: 20 } },
      scales: { x: { time: chart.time, distr: chart.xlog ? 3 : 1, ...across }, y: { distr: chart.ylog ? 3 : 1, ...range } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [axis(chart.x, { size: 40, ...(chart.time ? { space: 90, values: dates } : {}) }), axis(chart.y, { size: 76 })],
      series: [{}, ...chart.series.map((one) => ({
        label: chart.names[one.name], stroke: colour(`c${one.colour}`), width: 1.4, spanGaps: true,
        paths: one.line ? undefined : () => null,
        points: { show: !one.line || one.x.length <= 40, size: one.x.length > 300 ? 3 : 6, fill: colour(`c${one.colour}`) },
      }))],
      hooks: { draw: [over(chart)], setCursor: [(plot) => say(reading(chart, plot))] },
    };
  }

  function zoomed(plot) {
    return plot.zoomed === true;
  }

  /** Columns of one x, as the library wants them; a curve has nothing at the x of others. */
  function columns(chart) {
    return uPlot.join(chart.series.map((one) => [one.x, one.y]), chart.series.map((one) => one.x.map(() => 1)));
  }

  function button(text, press) {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  }

  /** Buttons below a chart: one for each curve, and the way back from a zoom. */
  function tools(chart, state, redraw) {
    const row = element("div", "tools");
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", "Curves of this chart");
    if (chart.names.length > 1) {
      chart.names.forEach((name, place) => {
        const one = button("", () => {
          state.hidden.has(place) ? state.hidden.delete(place) : state.hidden.add(place);
          one.setAttribute("aria-pressed", String(!state.hidden.has(place)));
          chart.series.forEach((series, k) => series.name === place && state.plot.setSeries(k + 1, { show: !state.hidden.has(place) }));
        });
        one.setAttribute("aria-pressed", "true");
        const swatch = element("span", "swatch");
        swatch.style.background = `var(--c${chart.series.find((series) => series.name === place).colour})`;
        one.append(swatch, name);
        row.append(one);
      });
    }
    row.append(button("Whole range", redraw));
    return row;
  }

  function start(figure) {
    const chart = charts[Number(figure.dataset.chart)];
    const box = element("div", "live");
    const canvas = element("div", "canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", chart.words);
    const words = element("div", "reading");
    const state = { hidden: new Set(), plot: null };
    const redraw = () => {
      if (state.plot) state.plot.destroy();
      state.plot = new uPlot(settings(chart, Math.max(240, canvas.clientWidth), (text) => { words.textContent = text; }), columns(chart), canvas);
      state.plot.over.addEventListener("mousedown", () => { state.plot.zoomed = true; });
      state.plot.over.addEventListener("dblclick", () => { state.plot.zoomed = false; redraw(); });
      chart.series.forEach((one, k) => state.hidden.has(one.name) && state.plot.setSeries(k + 1, { show: false }));
    };
    box.append(canvas, words, tools(chart, state, redraw));
    figure.append(box);
    figure.classList.add("is-live");
    redraw();
    live.push({ redraw, canvas, width: canvas.clientWidth });
  }

  if (typeof uPlot !== "undefined") {
    document.querySelectorAll("figure.chart").forEach(start);
    const again = () => live.forEach((one) => one.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    addEventListener("resize", () => live.forEach((one) => {
      if (one.canvas.clientWidth && one.canvas.clientWidth !== one.width) {
        one.width = one.canvas.clientWidth;
        one.redraw();
      }
    }));
  }

  /* Paper has no folds: what is folded is opened for it, and folded again. */
  const opened = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((one) => { one.open = true; opened.push(one); });
  });
  addEventListener("afterprint", () => {
    while (opened.length) opened.pop().open = false;
  });
})();
