/** The definitions of the figures in Chinese, by id and version: another version is another meaning. */

import type { Definition } from "../answers";

type Words = Pick<Definition, "name" | "numerator" | "denominator" | "description">;

const COMPLETE_HOURS = "时段（或每步）中数据完整的小时数：从起点到数据完整时刻";

export const DEFINITIONS: Readonly<Record<string, Words>> = {
  "moves_per_hour/1": {
    name: "每小时吊次",
    numerator: "岸桥完成的集装箱吊次（吊具带载闭锁到开锁）",
    denominator: COMPLETE_HOURS,
    description:
      "每小时集装箱吊次。只计数据完整部分的吊次，因此最新数据不会拉低效率；不扣除延误和空闲时间。卸船与装船同样计数；不跨岸线的倒箱是事件，不计吊次；双箱吊计一次，箱量见 TEU。没有完整数据时为空。",
  },
  "passages_per_hour/1": {
    name: "每小时过闸车次",
    numerator: "进出闸的过闸次数（同一车辆的标签读取合并为一次过闸）",
    denominator: COMPLETE_HOURS,
    description: "每小时通过闸口车道的车次，进出合计。只计数据完整部分的过闸。没有完整数据时为空。",
  },
  "telemetry/1": {
    name: "汇总测值",
    numerator: "已接收的设备测值",
    denominator: "按步长划分的时段，对齐 1970-01-01T00:00:00Z",
    description:
      "每个时段内测值的精确个数、合计、最小值、最大值和均值（合计 ÷ 个数），以及按测值时间和序号的首值与末值。每个测值权重相同，与其持续时间无关。没有测值的时段不出现。",
  },
  "coverage/1": {
    name: "覆盖率",
    numerator: "至少接收到设备一个测值的“设备 × 已关闭窗口”数",
    denominator: "时段内全部“设备 × 已关闭窗口”数",
    description:
      "时段内相关设备有数据的已关闭窗口所占百分比。窗口全部早于数据完整时刻即为关闭；窗口宽 10 秒，超过 1440 个窗口时取下一级宽度。没有已关闭窗口或没有相关设备时为空。",
  },
};
