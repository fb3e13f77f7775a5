/* Repaints the score maps for another threshold and fades them. Without it the page shows the maps whole. */
(async () => {
  "use strict";
  if (!("DecompressionStream" in window)) return;
  const told = JSON.parse(document.getElementById("maps").textContent);
  const inks = new Uint32Array(Uint8Array.from(told.colours.match(/../g), (pair) => parseInt(pair, 16)).buffer);
  const bytes = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const layers = await Promise.all(told.maps.map(async (map, index) => {
    const image = document.querySelector(`#layer-${index} img`);
    const canvas = Object.assign(document.createElement("canvas"), { width: map.width, height: map.height });
    canvas.className = image.className;
    canvas.style.cssText = image.style.cssText;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", image.alt);
    return { ...map, image, canvas, cells: await bytes(map.cells) };
  }));
  const opacity = document.getElementById("opacity");
  const threshold = document.getElementById("threshold");
  const said = document.getElementById("said");
  const choices = [...document.querySelectorAll("input[name=map]")];
  const chosen = () => layers[Math.max(0, choices.findIndex((choice) => choice.checked))];
  let least = 0;

  const paint = () => {
    const { canvas, cells, width, height } = chosen();
    const picture = new ImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    let shown = 0, judged = 0;
    cells.forEach((cell, at) => {
      const isScore = cell > 1, isShown = cell === 1 || (isScore && (cell - 2) / 253 >= least);
      judged += isScore;
      shown += isScore && isShown;
      if (isShown) pixels[at] = inks[cell];
    });
    canvas.getContext("2d").putImageData(picture, 0, 0);
    said.textContent = `${shown.toLocaleString("en")} of ${judged.toLocaleString("en")} squares shown`;
  };
  const fade = () => {
    for (const { canvas } of layers) canvas.style.opacity = opacity.value / 100;
    document.getElementById("opacity-said").textContent = `${opacity.value} %`;
  };
  const cut = (value) => {
    least = value;
    threshold.value = value;
    document.getElementById("threshold-said").textContent = value.toFixed(2);
    paint();
  };

  for (const { image, canvas } of layers) image.replaceWith(canvas);
  opacity.addEventListener("input", fade);
  threshold.addEventListener("input", () => cut(Number(threshold.value)));
  document.getElementById("frozen").addEventListener("click", () => cut(chosen().fakeAbove));
  document.getElementById("whole").addEventListener("click", () => cut(0));
  for (const choice of choices) choice.addEventListener("change", paint);
  fade();
  cut(Number(threshold.value));
  document.getElementById("controls").hidden = false;
  document.documentElement.classList.add("scripted");
})();
