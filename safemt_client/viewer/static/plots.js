// Draws the plots of a page by Vega, where its bundle has been loaded; the tables beside them need no scripts.
"use strict";

function draw() {
  if (!window.vegaEmbed) return;
  document.querySelectorAll("[data-vega]:not([data-drawn])").forEach((box) => {
    box.dataset.drawn = "";
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const ink = getComputedStyle(document.body).color;
    const config = {
      axis: { labelColor: ink, titleColor: ink, gridOpacity: 0.25, domainColor: ink, tickColor: ink },
      legend: { labelColor: ink, titleColor: ink },
      view: { stroke: null },
      range: dark ? { category: { scheme: "set2" } } : {},
      aria: false,
    };
    // No code is made from text (the page's policy forbids it), and no style sheet is put into the page.
    window.vegaEmbed(box, JSON.parse(box.dataset.vega), {
      ast: true, actions: false, renderer: "svg", defaultStyle: false, config, tooltip: { disableDefaultStyle: true },
    }).catch((error) => { box.textContent = `The plot cannot be drawn: ${error.message}`; });
  });
}

document.addEventListener("DOMContentLoaded", draw);
document.addEventListener("htmx:load", draw);
window.addEventListener("load", draw);
