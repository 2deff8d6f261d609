/** The command that publishes a first reading, for a page that has no device to show yet. */

export interface FirstReading {
  readonly command: string;
  /** Whether the broker speaks TLS: then it asks for credentials, too, and for the authority of its certificate. */
  readonly secured: boolean;
}

/** What to type, for a broker as ingest names it, such as `mqtts://127.0.0.1:8883`; "" where nobody has named one. */
export function firstReading(broker: string, site: string): FirstReading {
  const uid = `${site}/vehicle/T-001`;
  const secured = broker.startsWith("mqtts:");
  let address = "-h 127.0.0.1 -p 1883";
  try {
    const url = new URL(broker.replace(/^mqtts?:/, "http:"));
    address = `-h ${url.hostname} -p ${url.port || (secured ? "8883" : "1883")}`;
  } catch {
    // Without an address the usual one stands as an example.
  }
  const proof = secured ? ` --cafile CA.pem -u ${uid} -P PASSWORD` : "";
  return { command: `mosquitto_pub ${address}${proof} -t port/${uid}/telemetry -m '{"v":1,"m":{"x_m":120,"y_m":60,"speed_mps":4.2}}'`, secured };
}
