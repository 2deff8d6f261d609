/** The yard map: keeps the view, draws at the screen's pace, answers pointer and keyboard. */

import { h, setText } from "./dom";
import {
  boundsOf,
  clamp,
  contains,
  fit,
  hit,
  keepInSight,
  pan,
  turn,
  zoomAt,
  type Margins,
  type Point,
  type Rect,
  type Target,
  type View,
} from "./geometry";
import { drawGround, drawScaleBar } from "./ground";
import { t } from "./i18n";
import { derive, isNear, plan, type Layout } from "./layout";
import * as machines from "./machines";
import { PALETTES } from "./palette";
import type { Port, PortDevice } from "./port";
import { reducedMotion, type Theme } from "./prefs";
import { Roads } from "./roads";

/** Shortest time between two pictures (ms): 30 a second is smooth for a truck and leaves the machine its processor. */
const FRAME_MS = 30;

/** Room along the edges, below for the legend and the scale: a truck behind them is a truck not seen. */
const MARGINS: Margins = { top: 14, bottom: 42, side: 14 };
const REACH_PX = 9;
const TRAIL_MS = 12_000;
const CHOSEN_TRAIL_MS = 30_000;
const TURN_PER_MS = 0.006;
/** Roads learnt meanwhile are added to the ground this often (ms). */
const ROADS_MS = 2_000;
const ZOOM_STEP = 1.35;
const PAN_STEP_PX = 60;
const CLICK_SLOP_PX = 5;

/** What lies on top of what: machines are drawn in this order. */
const LAYERS = ["rfid-gate", "park-sensor", "vehicle", "yard-crane", "quay-crane"] as const;

export interface MapHandlers {
  onSelect(uid: string): void;
  /** The lines of the tooltip of a device: its name first. */
  describe(device: PortDevice): readonly string[];
}

interface Placed {
  readonly device: PortDevice;
  readonly pose: machines.Pose;
}

export class YardMap {
  private view: View = { scale: 1, offsetX: 0, offsetY: 0 };
  private layout: Layout | null = null;
  private placed: readonly Placed[] = [];
  private readonly angles = new Map<string, number>();
  private readonly ground = h("canvas");
  private readonly context: CanvasRenderingContext2D;
  private readonly roads = new Roads();
  private roadsDrawn = 0;
  private groundAt = 0;
  private theme: Theme = "dark";
  private chosen: string | null = null;
  private pointed: string | null = null;
  private pointer: Point | null = null;
  private fitted = true;
  private groundDirty = true;
  private dirty = true;
  private lastFrame = 0;
  private width = 0;
  private height = 0;
  private ratio = 1;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly tooltip: HTMLElement,
    private readonly port: Port,
    private readonly handlers: MapHandlers,
  ) {
    const context = canvas.getContext("2d", { alpha: false });
    if (!context) throw new Error("this browser offers no 2D canvas");
    this.context = context;
    new ResizeObserver(() => this.resize()).observe(canvas);
    port.on("devices", () => this.relayout());
    port.on("values", () => {
      this.dirty = true;
      if (this.learnRoads() || !this.layout) this.relayout();
    });
    this.listen();
    this.resize();
    requestAnimationFrame((now) => this.frame(now));
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    this.redrawGround();
  }

  /** Draw texts on the map again, in a new language. */
  redrawGround(): void {
    this.groundDirty = true;
    this.dirty = true;
  }

  select(uid: string | null): void {
    this.chosen = uid;
    this.dirty = true;
  }

  zoom(factor: number): void {
    this.moveTo(zoomAt(this.view, { x: this.width / 2, y: this.height / 2 }, factor));
  }

  showAll(): void {
    this.fitted = true;
    this.refit();
  }

  /** Where every device on the map is drawn now: local metres, canvas pixels and the state shown. */
  positions(): Record<string, { x: number; y: number; px: number; py: number; laden: boolean; state: string }> {
    const found: Record<string, { x: number; y: number; px: number; py: number; laden: boolean; state: string }> = {};
    for (const { device, pose } of this.placed) {
      const { x, y } = pose.at;
      found[device.id] = {
        x: plan(x, y).x,
        y,
        px: x * this.view.scale + this.view.offsetX,
        py: y * this.view.scale + this.view.offsetY,
        laden: machines.isLaden(device),
        state: device.state,
      };
    }
    return found;
  }

  /** Note where vehicles are; returns whether one of them has left what the view is fitted to. */
  private learnRoads(): boolean {
    let left = false;
    for (const device of this.port.devices.values()) {
      const [x, y] = (device.class === "vehicle" && device.track?.newest) || [];
      if (x === undefined || y === undefined) continue;
      const at = plan(x, y);
      this.roads.drive(device.uid, at);
      left ||= this.layout !== null && isNear(this.layout, at) && !contains(this.layout.bounds, at);
    }
    return left && this.fitted;
  }

  private relayout(): void {
    const found = derive(this.port.devices.values(), this.roads.corners());
    this.layout = found && (this.fitted || !this.layout) ? found : found && { ...found, bounds: this.layout!.bounds };
    this.groundDirty = true;
    this.refit();
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.canvas;
    this.ratio = window.devicePixelRatio || 1;
    this.width = clientWidth;
    this.height = clientHeight;
    for (const canvas of [this.canvas, this.ground]) {
      canvas.width = Math.max(1, Math.round(clientWidth * this.ratio));
      canvas.height = Math.max(1, Math.round(clientHeight * this.ratio));
    }
    this.groundDirty = true;
    this.refit();
    this.draw(performance.now());
  }

  private refit(): void {
    if (this.fitted && this.layout && this.width > 0) {
      const wanted = fit(this.layout.bounds, this.width, this.height, MARGINS);
      const { view } = this;
      const moved =
        Math.abs(wanted.scale / view.scale - 1) > 0.02 ||
        Math.abs(wanted.offsetX - view.offsetX) > 8 ||
        Math.abs(wanted.offsetY - view.offsetY) > 8;
      if (moved) {
        this.view = wanted;
        this.groundDirty = true;
      }
    }
    this.dirty = true;
  }

  private moveTo(view: View): void {
    this.fitted = false;
    this.view = this.layout ? keepInSight(view, this.layout.bounds, this.width, this.height) : view;
    this.groundDirty = true;
    this.dirty = true;
  }

  private frame(now: number): void {
    requestAnimationFrame((next) => this.frame(next));
    if (now - this.lastFrame < FRAME_MS) return;
    if (window.devicePixelRatio !== this.ratio) this.resize();
    if (reducedMotion() && !this.dirty && now - this.lastFrame < 1_000) return;
    this.draw(now);
  }

  private draw(now: number): void {
    const still = reducedMotion();
    const elapsed = Math.min(200, now - this.lastFrame);
    this.lastFrame = now;
    this.dirty = false;
    const palette = PALETTES[this.theme];
    this.placed = this.place(now, elapsed, still);
    if (this.roads.size > this.roadsDrawn && now - this.groundAt > ROADS_MS) this.groundDirty = true;
    if (this.groundDirty) this.drawGround(now);
    const { context, view } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.ground, 0, 0);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const brush: machines.Brush = { context, view, palette };
    for (const item of this.placed) this.drawTrail(brush, item, now);
    for (const item of this.placed) this.drawMachine(brush, item, now, still);
    for (const { device, pose } of this.placed) {
      const chosen = device.uid === this.chosen;
      if (!chosen && device.uid !== this.pointed) continue;
      const box = machines.boxOf(device, pose);
      machines.drawFrame(brush, box, chosen);
      if (device.class === "vehicle" || device.class === "rfid-gate" || device.class === "park-sensor") {
        const x = (box.x + box.width / 2) * view.scale + view.offsetX;
        machines.label(brush, device.id, x, box.y * view.scale + view.offsetY - 8);
      }
    }
    if (this.pointer) this.pointAt(this.pointer);
  }

  private drawGround(now: number): void {
    const context = this.ground.getContext("2d", { alpha: false });
    if (!context) return;
    this.groundDirty = false;
    this.roadsDrawn = this.roads.size;
    this.groundAt = now;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const canvas = { context, width: this.width, height: this.height };
    drawGround(canvas, this.view, this.layout, this.roads, PALETTES[this.theme], {
      water: t("map.water"),
      metres: (length) => t("map.metres", { length }),
    });
    if (this.layout) {
      drawScaleBar(canvas, this.view, PALETTES[this.theme], (metres) =>
        metres >= 1000 ? t("map.kilometres", { length: metres / 1000 }) : t("map.metres", { length: metres }),
      );
    }
  }

  private place(now: number, elapsed: number, still: boolean): readonly Placed[] {
    const layers = new Map<string, Placed[]>(LAYERS.map((layer) => [layer, []]));
    for (const device of this.port.devices.values()) {
      const layer = layers.get(device.class);
      if (!layer) continue;
      const channels = still ? (device.track?.newest ?? null) : (device.track?.at(now) ?? null);
      const pose = machines.poseOf(device, channels, this.angleOf(device, now, elapsed));
      if (pose) layer.push({ device, pose });
    }
    return [...layers.values()].flat();
  }

  /** The direction of a vehicle on screen: its course, before it has moved its heading; turned smoothly. */
  private angleOf(device: PortDevice, now: number, elapsed: number): number {
    if (device.class !== "vehicle" || !device.track) return 0;
    const known = this.angles.get(device.uid);
    const course = device.track.course(now);
    let wanted: number;
    if (course !== null) {
      const end = plan(Math.cos(course), Math.sin(course));
      wanted = Math.atan2(end.y, end.x);
    } else if (known !== undefined) {
      return known;
    } else {
      // Compass heading, taken as if the quay ran due east; good enough until the first metre driven.
      const compass = ((device.values.get("heading_deg") ?? 0) * Math.PI) / 180;
      const end = plan(Math.sin(compass), Math.cos(compass));
      wanted = Math.atan2(end.y, end.x);
    }
    const angle =
      known === undefined ? wanted : known + clamp(turn(known, wanted), -TURN_PER_MS * elapsed, TURN_PER_MS * elapsed);
    this.angles.set(device.uid, angle);
    return angle;
  }

  private drawTrail(brush: machines.Brush, { device, pose }: Placed, now: number): void {
    if (device.class !== "vehicle" || !device.track || device.state !== "live") return;
    const strong = device.uid === this.chosen || device.uid === this.pointed;
    const points = device.track.trail(now, strong ? CHOSEN_TRAIL_MS : TRAIL_MS).map(([x, y]) => plan(x ?? 0, y ?? 0));
    machines.drawTrail(brush, [...points, pose.at], strong);
  }

  private drawMachine(brush: machines.Brush, { device, pose }: Placed, now: number, still: boolean): void {
    if (device.class === "vehicle") machines.drawTruck(brush, device, pose);
    else if (device.class === "quay-crane") machines.drawQuayCrane(brush, device, pose);
    else if (device.class === "yard-crane") machines.drawYardCrane(brush, device, pose);
    else if (device.class === "rfid-gate") {
      machines.drawPassage(brush, pose.at, now - this.port.passageAt(device.uid), still);
    } else machines.drawSensor(brush, device, pose);
  }

  // Pointer and keyboard

  private listen(): void {
    const { canvas } = this;
    let from: Point | null = null;
    let dragged = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = { x: event.offsetX, y: event.offsetY };
      dragged = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = { x: event.offsetX, y: event.offsetY };
      if (from && (dragged || Math.hypot(at.x - from.x, at.y - from.y) > CLICK_SLOP_PX)) {
        dragged = true;
        this.moveTo(pan(this.view, at.x - from.x, at.y - from.y));
        from = at;
        canvas.classList.add("dragging");
        this.pointer = null;
        this.pointAt(null);
        return;
      }
      this.pointer = at;
      this.pointAt(at);
    });
    canvas.addEventListener("pointerup", (event) => {
      canvas.classList.remove("dragging");
      const clicked = from !== null && !dragged;
      from = null;
      if (!clicked) return;
      const uid = this.deviceAt({ x: event.offsetX, y: event.offsetY });
      if (uid) this.handlers.onSelect(uid);
    });
    canvas.addEventListener("pointercancel", () => {
      from = null;
      canvas.classList.remove("dragging");
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.pointAt(null);
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 16 : event.deltaY;
        const factor = Math.exp(clamp(-pixels, -240, 240) * 0.0016);
        this.moveTo(zoomAt(this.view, { x: event.offsetX, y: event.offsetY }, factor));
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => this.showAll());
    canvas.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && this.onKey(event.key)) event.preventDefault();
    });
  }

  private onKey(key: string): boolean {
    const step: Record<string, readonly [number, number]> = {
      ArrowLeft: [PAN_STEP_PX, 0],
      ArrowRight: [-PAN_STEP_PX, 0],
      ArrowUp: [0, PAN_STEP_PX],
      ArrowDown: [0, -PAN_STEP_PX],
    };
    const by = step[key];
    if (by) this.moveTo(pan(this.view, by[0], by[1]));
    else if (key === "+" || key === "=") this.zoom(ZOOM_STEP);
    else if (key === "-" || key === "_") this.zoom(1 / ZOOM_STEP);
    else if (key === "0" || key === "Home") this.showAll();
    else if (key === "n" || key === "N") this.selectNext(1);
    else if (key === "p" || key === "P") this.selectNext(-1);
    else return false;
    return true;
  }

  private selectNext(step: number): void {
    const uids = this.placed.map(({ device }) => device.uid).sort();
    if (uids.length === 0) return;
    const at = this.chosen === null ? -1 : uids.indexOf(this.chosen);
    const next = at < 0 ? (step > 0 ? 0 : uids.length - 1) : (at + step + uids.length) % uids.length;
    this.handlers.onSelect(uids[next]!);
  }

  private deviceAt(pixel: Point): string | null {
    const targets: Target<string>[] = this.placed.map(({ device, pose }) => ({
      item: device.uid,
      box: machines.boxOf(device, pose),
    }));
    return hit(targets, this.view, pixel, REACH_PX);
  }

  private pointAt(pixel: Point | null): void {
    this.pointed = pixel && this.deviceAt(pixel);
    this.canvas.classList.toggle("pointing", this.pointed !== null);
    const device = this.pointed === null ? undefined : this.port.devices.get(this.pointed);
    if (!pixel || !device) {
      this.tooltip.hidden = true;
      return;
    }
    const lines = this.handlers.describe(device);
    while (this.tooltip.childElementCount > lines.length) this.tooltip.lastElementChild?.remove();
    while (this.tooltip.childElementCount < lines.length) this.tooltip.append(h("div"));
    lines.forEach((line, index) => setText(this.tooltip.children[index]!, line));
    this.tooltip.hidden = false;
    // CSSOM, not a style attribute: the page's content policy forbids the latter.
    const left = clamp(pixel.x + 16, 4, this.width - this.tooltip.offsetWidth - 4);
    const below = pixel.y + 18 + this.tooltip.offsetHeight < this.height;
    const top = below ? pixel.y + 18 : pixel.y - this.tooltip.offsetHeight - 10;
    this.tooltip.style.transform = `translate(${Math.round(left)}px, ${Math.round(Math.max(4, top))}px)`;
  }

  /** The plan rectangle that is visible; for tests. */
  visible(): Rect {
    const found = boundsOf([
      { x: -this.view.offsetX / this.view.scale, y: -this.view.offsetY / this.view.scale },
      { x: (this.width - this.view.offsetX) / this.view.scale, y: (this.height - this.view.offsetY) / this.view.scale },
    ]);
    return found ?? { x: 0, y: 0, width: 0, height: 0 };
  }
}
