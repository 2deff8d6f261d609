import { expect, test } from "vitest";

import { firstReading } from "../src/firstreading";

const SAID = "-t port/CNSHA-YS1/vehicle/T-001/telemetry -m '{\"v\":1,\"m\":{\"x_m\":120,\"y_m\":60,\"speed_mps\":4.2}}'";

test("a first reading goes to the broker that ingest names", () => {
  expect(firstReading("mqtt://port.example:1884", "CNSHA-YS1")).toEqual({ command: `mosquitto_pub -h port.example -p 1884 ${SAID}`, secured: false });
  expect(firstReading("", "CNSHA-YS1").command).toBe(`mosquitto_pub -h 127.0.0.1 -p 1883 ${SAID}`);
});

test("a broker that speaks TLS is shown what it asks for", () => {
  expect(firstReading("mqtts://port.example:8884", "CNSHA-YS1")).toEqual({
    command: `mosquitto_pub -h port.example -p 8884 --cafile CA.pem -u CNSHA-YS1/vehicle/T-001 -P PASSWORD ${SAID}`,
    secured: true,
  });
});
