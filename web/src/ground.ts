/** The still part of the map: water, quay with its metres, blocks, gate lanes. Drawn once per view, then reused. */

import { clamp, roundLength, toScreen, type View } from "./geometry";
import type { Block, Lane, Layout } from "./layout";
import { CRANE_REACH, ROW_M } from "./layout";
import type { Palette } from "./palette";
import { CELL_M, type Roads } from "./roads";

export interface Canvas {
  readonly context: CanvasRenderingContext2D;
  readonly width: number;
  readonly height: number;
}

export const FONT = '"Inter", "Segoe UI", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif';

/** Bay length drawn as a grid on blocks, m: a 20 ft container with its clearance. */
const BAY_M = 6.5;

/** What stands on the ground, in the language of the page. */
export interface Words {
  water: string;
  metres: (length: number) => string;
}

export function drawGround(
  canvas: Canvas,
  view: View,
  layout: Layout | null,
  roads: Roads,
  palette: Palette,
  words: Words,
): void {
  const { context, width, height } = canvas;
  context.fillStyle = palette.ground;
  context.fillRect(0, 0, width, height);
  if (!layout) return;
  if (layout.quay) drawQuay(canvas, view, palette, words);
  drawRoads(canvas, view, roads, palette);
  for (const block of layout.blocks) drawBlock(context, view, block, palette);
  for (const lane of layout.lanes) drawLane(context, view, lane, palette);
}

function drawQuay({ context, width }: Canvas, view: View, palette: Palette, words: Words): void {
  const edge = toScreen(view, { x: 0, y: 0 }).y;
  const apron = toScreen(view, { x: 0, y: CRANE_REACH.land }).y;
  context.fillStyle = palette.apron;
  context.fillRect(0, edge, width, apron - edge);
  context.fillStyle = palette.water;
  context.fillRect(0, 0, width, Math.max(0, edge));
  context.strokeStyle = palette.waterLine;
  context.lineWidth = 1;
  context.beginPath();
  for (let y = edge - 14; y > 0; y -= 14) {
    const line = Math.round(y) + 0.5;
    context.moveTo(0, line);
    context.lineTo(width, line);
  }
  context.stroke();
  // Crane rails, as wide apart as the portal below which the lanes run.
  context.strokeStyle = palette.blockLine;
  for (const rail of RAILS_M) {
    const y = Math.round(toScreen(view, { x: 0, y: rail }).y) + 0.5;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
  }
  context.fillStyle = palette.quayEdge;
  context.fillRect(0, Math.round(edge) - 2, width, 3);
  drawQuayMetres(context, view, width, edge, palette, words.metres);
  context.font = `12px ${FONT}`;
  context.textAlign = "left";
  context.textBaseline = "top";
  context.fillStyle = palette.faintLabel;
  if (edge > 30) context.fillText(words.water, 12, 10);
}

function drawRoads({ context, width, height }: Canvas, view: View, roads: Roads, palette: Palette): void {
  // Whole pixels, a little large: neighbouring cells must not leave a seam.
  const size = Math.ceil(CELL_M * view.scale) + 1;
  context.fillStyle = palette.road;
  for (const corner of roads.corners()) {
    const { x, y } = toScreen(view, corner);
    if (x > -size && y > -size && x < width && y < height) context.fillRect(Math.floor(x), Math.floor(y), size, size);
  }
}

/** Where the legs of quay cranes stand, m from the quay edge. */
export const RAILS_M = [3, 33] as const;

/** Metres along the quay at its edge, as on the bollards. */
function drawQuayMetres(context: CanvasRenderingContext2D, view: View, width: number, edge: number, palette: Palette, label: (metres: number) => string): void {
  const step = roundLength(view.scale, 130);
  context.font = `10px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.strokeStyle = palette.quayEdge;
  context.fillStyle = palette.faintLabel;
  context.lineWidth = 1;
  const left = Math.ceil(-view.offsetX / view.scale / step) * step;
  for (let at = left; at * view.scale + view.offsetX < width; at += step) {
    const x = Math.round(at * view.scale + view.offsetX) + 0.5;
    context.beginPath();
    context.moveTo(x, edge - 7);
    context.lineTo(x, edge - 2);
    context.stroke();
    // Plan x is minus the metres along the quay; `+ 0` turns −0 into 0.
    context.fillText(label(Math.round(-at) + 0), x, edge - 8);
  }
}

function drawBlock(context: CanvasRenderingContext2D, view: View, block: Block, palette: Palette): void {
  const { x, y } = toScreen(view, block.box);
  const width = block.box.width * view.scale;
  const height = block.box.height * view.scale;
  context.fillStyle = palette.block;
  context.fillRect(x, y, width, height);
  context.strokeStyle = palette.blockLine;
  context.lineWidth = 1;
  const bay = BAY_M * view.scale;
  const row = ROW_M * view.scale;
  context.globalAlpha = clamp((bay - 3) / 8, 0, 0.7);
  if (bay > 3) {
    context.beginPath();
    for (let at = x + bay; at < x + width - 1; at += bay) {
      context.moveTo(Math.round(at) + 0.5, y);
      context.lineTo(Math.round(at) + 0.5, y + height);
    }
    if (row > 4) {
      for (let at = y + row; at < y + height - 1; at += row) {
        context.moveTo(x, Math.round(at) + 0.5);
        context.lineTo(x + width, Math.round(at) + 0.5);
      }
    }
    context.stroke();
  }
  context.globalAlpha = 1;
  context.strokeRect(Math.round(x) + 0.5, Math.round(y) + 0.5, Math.round(width), Math.round(height));
  context.font = `600 ${clamp(Math.round(height * 0.6), 9, 13)}px ${FONT}`;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = palette.faintLabel;
  if (width > 50 && height > 9) context.fillText(block.name, x + 6, y + height / 2 + 0.5);
}

export const LANE_LENGTH_M = 26;
export const LANE_WIDTH_M = 5;

function drawLane(context: CanvasRenderingContext2D, view: View, lane: Lane, palette: Palette): void {
  const at = toScreen(view, lane.at);
  const width = Math.max(7, LANE_WIDTH_M * view.scale);
  const length = Math.max(18, LANE_LENGTH_M * view.scale);
  context.fillStyle = palette.block;
  context.fillRect(at.x - width / 2, at.y - length / 2, width, length);
  const colour = lane.direction === "out" ? palette.laneOut : palette.laneIn;
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineWidth = 1.5;
  context.strokeRect(at.x - width / 2, at.y - length / 2, width, length);
  if (!lane.direction) return;
  // In is towards the quay, so up.
  const sign = lane.direction === "in" ? -1 : 1;
  const tip = at.y + sign * (length / 2 + 8);
  context.beginPath();
  context.moveTo(at.x, tip);
  context.lineTo(at.x - 4, tip - sign * 6);
  context.lineTo(at.x + 4, tip - sign * 6);
  context.closePath();
  context.fill();
}

/** The scale bar in the lower left corner; returns the length shown, in metres. */
export function drawScaleBar({ context, height }: Canvas, view: View, palette: Palette, label: (metres: number) => string): void {
  const metres = roundLength(view.scale, 120);
  const width = metres * view.scale;
  const [x, y] = [12.5, Math.round(height) - 12.5];
  context.strokeStyle = palette.label;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, y - 5);
  context.lineTo(x, y);
  context.lineTo(x + width, y);
  context.lineTo(x + width, y - 5);
  context.stroke();
  context.font = `11px ${FONT}`;
  context.textAlign = "left";
  context.textBaseline = "bottom";
  context.fillStyle = palette.label;
  context.fillText(label(metres), x + 4, y - 3);
}
