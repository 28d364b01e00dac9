"use strict";
// The page of `grcsf view`. Names of cases and methods become text, never markup; a path has numbers alone.

const by = (id) => document.getElementById(id);
const viewer = new niivue.Niivue({
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.9, 0.9, 0.9, 0.7],
  crosshairWidth: 0.3,
  crosshairWidthUnit: "percent", // of the picture: one of a voxel's width would hide what it points at
  crosshairGap: 6,
  fontColor: [0.85, 0.85, 0.85, 1],
  dragAndDropEnabled: false,
  isNearestInterpolation: true, // a voxel is seen as it is
  isRadiologicalConvention: true, // as the report shows it
  sagittalNoseLeft: true,
  showAllOrientationMarkers: true,
  isResizeCanvas: true,
  logLevel: "error",
  loadingText: "",
  multiplanarShowRender: 0, // three planes, no rendering
  tileMargin: 4,
});
const OPACITY = { image: 1, map: 0.7, reference: 0.6, mask: 0.6 };
const chosen = new Map(); // title of a layer → whether it is on, and its opacity: kept from case to case
let list = { cases: [], columns: [], by: "" };
let shown = { number: 0, layers: [], volumes: new Map() }; // layer's number → its volume, once it was on
let queue = Promise.resolve(); // one change of the picture at a time, in the order of the clicks
let waiting = 0; // changes in the queue
let target = 0; // the number of the case that was asked for last

function element(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind;
  return made;
}

async function fetched(path) {
  const answer = await fetch(path).catch(() => {
    throw new Error("grcsf view does not answer: has it ended?");
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

function after(change) {
  waiting += 1;
  by("main").ariaBusy = "true";
  queue = queue
    .then(change)
    .then(() => "")
    .catch((error) => String(error.message || error))
    .then((fault) => {
      waiting -= 1;
      by("main").ariaBusy = String(waiting > 0);
      by("status").textContent = fault;
    });
}

function settingOf(layer) {
  const key = `${layer.kind} ${layer.title}`;
  if (!chosen.has(key)) {
    const first = layer.kind === "image" || layer.kind === "reference" || layer.title.split("/")[0] === list.by;
    chosen.set(key, { on: first, opacity: OPACITY[layer.kind] });
  }
  return chosen.get(key);
}

function opacityOf(number) {
  const { on, opacity } = settingOf(shown.layers[number]);
  return on ? opacity : 0;
}

// Colours in even steps from the lowest value to the highest, under a name of their own.
function addColours(layer, name) {
  const steps = layer.colours.length - 1;
  const part = (place) => layer.colours.map((colour) => colour[place]);
  const places = layer.colours.map((_, step) => Math.round((255 * step) / steps));
  viewer.addColormap(name, { R: part(0), G: part(1), B: part(2), A: part(3), I: places });
}

async function loaded(number) {
  by("status").textContent = "loading …";
  const layer = shown.layers[number];
  const path = `volumes/${shown.number}/${number}.nii`;
  const buffer = await (await fetched(path)).arrayBuffer();
  const colormap = `layer${number}`;
  addColours(layer, colormap);
  const look = { colormap, opacity: opacityOf(number), cal_min: layer.low, cal_max: layer.high };
  return niivue.NVImage.loadFromUrl({ url: path, buffer, ...look });
}

async function showCase(number) {
  shown = { number, layers: [], volumes: new Map() };
  describe({ case: list.cases[number].case, layers: [], scores: [] });
  viewer.volumes = [];
  viewer.drawScene();
  const told = await (await fetched(`cases/${number}.json`)).json();
  shown.layers = told.layers;
  describe(told);
  await add(0);
  if (!shown.volumes.has(0)) return; // there is nothing to lay the others over
  for (let index = 1; index < told.layers.length; index += 1) if (settingOf(told.layers[index]).on) await add(index);
  combine();
  if (told.place) viewer.scene.crosshairPos = viewer.mm2frac(told.place, 0, true);
  showWindow(viewer.volumes[0]);
  viewer.createOnLocationChange();
  viewer.drawScene();
}

// Loads a layer when it is first on; from then on it is only made visible or not.
async function draw(number) {
  const volume = shown.volumes.get(number);
  if (volume) viewer.setOpacity(viewer.volumes.indexOf(volume), opacityOf(number));
  else if (settingOf(shown.layers[number]).on && shown.volumes.has(0)) {
    await add(number);
    combine();
    viewer.createOnLocationChange();
  }
}

async function add(number) {
  const fault = by("layers").children[number].querySelector(".fault");
  fault.textContent = "";
  try {
    const volume = await loaded(number);
    const below = [...shown.volumes.keys()].filter((other) => other < number).length;
    viewer.volumes = viewer.volumes.toSpliced(below, 0, volume);
    shown.volumes.set(number, volume);
  } catch (error) {
    fault.textContent = error.message; // it hides none of the others
  }
}

// Lays the volumes over one another, once for all that are new: without a graphics card it takes seconds.
function combine() {
  viewer.setVolume(viewer.volumes[0], 0);
}

function describe(told) {
  by("case").textContent = told.case;
  document.title = `${told.case}, ${list.dataset}`;
  by("cases").value = String(shown.number);
  by("position").textContent = `${shown.number + 1} of ${list.cases.length}`;
  by("previous").disabled = shown.number === 0;
  by("next").disabled = shown.number === list.cases.length - 1;
  by("layers").replaceChildren(...told.layers.map(layerRow));
  by("crosshair").textContent = "";
  const head = element("tr");
  head.append(element("th"), ...list.columns.map((title) => element("th", title)));
  const rows = told.scores.map((score) => {
    const row = element("tr");
    const name = element("th", score.method);
    name.prepend(swatch([score.colour]), " ");
    row.append(name, ...score.values.map((value) => element("td", value === null ? "–" : value.toFixed(value < 10 ? 3 : 1))));
    return row;
  });
  by("scores").replaceChildren(...(rows.length ? [head, ...rows] : [element("caption", "not scored yet")]));
}

function swatch(colours) {
  const made = element("span", "", "colour");
  made.style.background = colours.length > 1 ? `linear-gradient(to right, ${colours.join(", ")})` : colours[0];
  return made;
}

function layerRow(layer, number) {
  const setting = settingOf(layer);
  const layers = shown.layers;
  const redraw = () => after(() => shown.layers === layers && draw(number));
  const row = element("li");
  const label = element("label");
  const box = element("input");
  box.type = "checkbox";
  box.checked = setting.on;
  box.addEventListener("change", () => {
    setting.on = box.checked;
    redraw();
  });
  const opacity = element("input");
  opacity.type = "range";
  Object.assign(opacity, { min: "0", max: "1", step: "0.05", value: String(setting.opacity) });
  opacity.setAttribute("aria-label", `Opacity of ${layer.title}`);
  opacity.addEventListener("input", () => {
    setting.opacity = Number(opacity.value);
    redraw();
  });
  const colours = layer.colours.map(([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`);
  const filled = layer.kind === "reference" || layer.kind === "mask";
  label.append(box, ...(filled ? [swatch(colours.slice(-1))] : []), element("span", layer.title, "name"));
  label.append(element("span", "", "value"));
  row.append(label, opacity);
  if (layer.kind === "map") {
    const ends = element("span", "", "ends");
    ends.append(layer.low.toFixed(2), swatch(colours), layer.high.toFixed(2));
    row.append(ends);
  }
  row.append(element("span", "", "fault"));
  return row;
}

function showWindow(image) {
  by("window").value = String(Number((image.cal_max - image.cal_min).toPrecision(6)));
  by("level").value = String(Number(((image.cal_max + image.cal_min) / 2).toPrecision(6)));
}

function setWindow(low, high) {
  const image = viewer.volumes[0];
  if (!image || !Number.isFinite(low) || !(high > low)) return;
  image.cal_min = low;
  image.cal_max = high;
  viewer.updateGLVolume();
}

function readWindow() {
  const [width, level] = [by("window").valueAsNumber, by("level").valueAsNumber];
  setWindow(level - width / 2, level + width / 2);
}

function showLocation(location) {
  const rows = by("layers").children;
  for (const row of rows) row.querySelector(".value").textContent = "";
  viewer.volumes.forEach((volume, place) => {
    const number = [...shown.volumes].find(([, loaded]) => loaded === volume)?.[0];
    const value = location.values[place]?.value;
    if (number === undefined || value === undefined) return;
    rows[number].querySelector(".value").textContent = String(Number(value.toFixed(3)));
  });
  const millimetres = [...location.mm].slice(0, 3).map((side) => side.toFixed(1));
  by("crosshair").textContent = `Crosshair at ${millimetres.join(", ")} mm; values beside the layers`;
}

function go(number) {
  if (number < 0 || number >= list.cases.length) return;
  target = number;
  after(() => target === number && showCase(number)); // those passed over in haste are not loaded
}

function pressed(event) {
  const typing = event.target.matches("input[type=number], select");
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : -1;
  if (event.key === "n") go(target + 1);
  else if (event.key === "p") go(target - 1);
  else if (digit >= 0) by("layers").children[digit]?.querySelector("input").click();
}

async function start() {
  viewer.onLocationChange = showLocation;
  viewer.onIntensityChange = (volume) => volume === viewer.volumes[0] && showWindow(volume);
  await viewer.attachToCanvas(by("planes"));
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  list = await (await fetched("cases.json")).json();
  by("order").textContent = list.cases.some((each) => each.dice !== null)
    ? `In the order of the Dice of ${list.by}, the lowest first.`
    : `No Dice of ${list.by} yet: in the order of the split.`;
  by("cases").replaceChildren(
    ...list.cases.map(({ case: name, dice }, number) => {
      const option = element("option", dice === null ? name : `${name} · ${dice.toFixed(3)}`);
      option.value = String(number);
      return option;
    }),
  );
  by("cases").addEventListener("change", () => go(Number(by("cases").value)));
  by("previous").addEventListener("click", () => go(target - 1));
  by("next").addEventListener("click", () => go(target + 1));
  for (const field of ["window", "level"]) by(field).addEventListener("input", readWindow);
  by("reset").addEventListener("click", () => {
    if (viewer.volumes.length === 0) return;
    setWindow(shown.layers[0].low, shown.layers[0].high);
    showWindow(viewer.volumes[0]);
  });
  by("smooth").addEventListener("change", () => viewer.setInterpolation(!by("smooth").checked));
  document.addEventListener("keydown", pressed);
  await showCase(0);
}

after(start);
