/**
 * The colours of the map and the chart for each theme. Those that carry a meaning (laden, yard truck, external truck,
 * stale, alarm) are told apart by people with any common colour blindness and differ in lightness and in shape as well.
 */

import type { Theme } from "./prefs";

export interface Palette {
  readonly water: string;
  readonly waterLine: string;
  readonly ground: string;
  readonly apron: string;
  readonly road: string;
  readonly quayEdge: string;
  readonly block: string;
  readonly blockLine: string;
  readonly grid: string;
  readonly label: string;
  readonly faintLabel: string;
  readonly steel: string;
  readonly steelEdge: string;
  readonly laden: string;
  readonly ladenEdge: string;
  readonly empty: string;
  readonly yardTruck: string;
  readonly externalTruck: string;
  readonly trail: string;
  readonly stale: string;
  readonly selected: string;
  readonly flash: string;
  readonly laneIn: string;
  readonly laneOut: string;
  readonly chartLine: string;
  readonly chartBand: string;
  readonly chartGrid: string;
  readonly chartText: string;
}

export const PALETTES: Readonly<Record<Theme, Palette>> = {
  dark: {
    water: "#0e2536",
    waterLine: "#1a3a52",
    ground: "#151b21",
    apron: "#1c242c",
    road: "#202a33",
    quayEdge: "#6d8496",
    block: "#202a33",
    blockLine: "#34434f",
    grid: "#26313a",
    label: "#c4d0da",
    faintLabel: "#7f909e",
    steel: "#a9b8c5",
    steelEdge: "#0d1216",
    laden: "#f2a93b",
    ladenEdge: "#3a2503",
    empty: "#0d1216",
    yardTruck: "#62b6ec",
    externalTruck: "#d597c0",
    trail: "#8fb3cc",
    stale: "#5f6b75",
    selected: "#ffffff",
    flash: "#ffe27a",
    laneIn: "#4fc3a1",
    laneOut: "#d597c0",
    chartLine: "#62b6ec",
    chartBand: "rgba(98, 182, 236, 0.22)",
    chartGrid: "#27323c",
    chartText: "#93a3b0",
  },
  light: {
    water: "#cfe3f1",
    waterLine: "#b3d0e4",
    ground: "#eceff1",
    apron: "#e0e5e9",
    road: "#dbe1e6",
    quayEdge: "#5b6f7f",
    block: "#d6dde3",
    blockLine: "#b3bfc9",
    grid: "#dde3e8",
    label: "#22303b",
    faintLabel: "#617180",
    steel: "#50606d",
    steelEdge: "#ffffff",
    laden: "#d98200",
    ladenEdge: "#4a2c00",
    empty: "#f7f9fa",
    yardTruck: "#0067a8",
    externalTruck: "#a23f7f",
    trail: "#5d87a5",
    stale: "#a3adb5",
    selected: "#000000",
    flash: "#b06a00",
    laneIn: "#00775a",
    laneOut: "#a23f7f",
    chartLine: "#0067a8",
    chartBand: "rgba(0, 103, 168, 0.16)",
    chartGrid: "#dde3e8",
    chartText: "#566472",
  },
};
