/** Chinese words for what the API says of a request that failed: each kind of problem, and its sentences with their values. */

import type { Sentence } from "../details";

/** What a kind of problem means, for a sentence that is not among those below. */
export const PROBLEMS: Readonly<Record<string, string>> = {
  "invalid-parameter": "参数的值无效",
  "unknown-parameter": "此处没有该参数",
  "unknown-metric": "该设备没有此测点",
  "reversed-range": "时间范围为空或前后颠倒",
  "range-too-large": "结果过大，请缩短范围或加大步长",
  "invalid-cursor": "游标不属于该查询",
  "unknown-device": "没有该设备",
  "ambiguous-device": "有多台设备使用该编号",
  "not-found": "此路径不存在",
  "method-not-allowed": "此处不允许该方法",
  "content-too-large": "请求内容过大",
  "query-too-long": "查询字符串过长",
  "bad-request": "请求格式有误",
  "not-authorised": "口令缺失或不正确",
  "changes-off": "不允许从此处更改",
  "not-adopted": "该名称未被采用",
  "no-answer": "设备未及时应答",
  "broker-refused": "MQTT 服务器拒绝该指令",
  "broker-unreachable": "无法连接 MQTT 服务器",
  "internal-error": "服务内部错误，详见服务日志",
  busy: "查询过多，请稍后重试",
  "query-timeout": "存储未及时应答",
  "store-unreachable": "无法连接存储",
  "not-ready": "服务尚未就绪",
  "too-many-streams": "实时连接过多，请稍后重试",
  "page-not-built": "页面尚未构建",
};

/** The API's sentences of problems and what they are in Chinese; `$1` and so on are the groups. */
export const PROBLEM_SENTENCES: readonly Sentence[] = [
  // Devices and names.
  [/^no device (['"].*['"]) has been heard$/s, "从未收到设备 $1 的消息"],
  [/^no device (['"].*['"]) has been heard at (\S+)$/s, "在 $2 从未收到设备 $1 的消息"],
  [/^(\d+) devices are called (['"].*['"]): (.*)$/s, "有 $1 台设备的编号为 $2：$3"],
  [/^(['"].*['"]) is not an adopted name of (\S+)$/s, "$1 不是 $2 已采用的名称"],
  [/^(?:metric: )?(['"].*['"]) is not a metric of (?:a )?([a-z-]+); see (\S+)$/s, "$1 不是$2的测点；测点表见 $3"],
  [/^(?:metric: )?(['"].*['"]) is not a metric of ([a-z-]+); did you mean (\w+)\?$/s, "$1 不是$2的测点；是否指 $3？"],
  [/^(?:metric: )?(['"].*['"]) is not a metric of ([a-z-]+); allowed: (.*)$/s, "$1 不是$2的测点；允许：$3"],
  [/^(?:scale, offset: )?expected finite numbers, and a scale that is not 0$/, "系数和偏移应为有限数，且系数不为 0"],
  [/^(?:name: )?expected text without NUL and without halves of characters$/, "名称不得含有 NUL 或残缺的字符"],
  // Ranges and sizes.
  [/^(?:end: )?(\S+) is not after start, (\S+)$/, "结束时间 $1 不晚于开始时间 $2"],
  [/^(?:end: )?(\S+) is less than one window of 10 s after start, (\S+)$/, "结束时间 $1 距开始时间 $2 不足一个 10 秒窗口"],
  [/^(?:start: )?the range is (\S+) days long; allowed: (\d+)$/, "范围长达 $1 天；最多 $2 天"],
  [/^(?:step: )?(\S+) makes about (\d+) buckets in each of (\d+) series; allowed here: (\d+), so at least (\S+)$/, "步长 $1 会使 $3 条序列各有约 $2 个区间；最多 $4 个，步长至少为 $5"],
  [/^the query string has (\d+) bytes; allowed: (\d+)$/, "查询字符串有 $1 字节；最多 $2 字节"],
  [/^the body has (\d+) bytes; allowed: (\d+)$/, "请求内容有 $1 字节；最多 $2 字节"],
  [/^(?:\/timeout: )?(['"].*['"]): expected (\d+) s to (\d+) s, such as (\w+)$/s, "$1：应为 $2 秒到 $3 秒，例如 $4"],
  [/^(?:\w+: )?(['"].*['"]) is not a duration such as (.*)$/s, "$1 不是时长；例如 $2"],
  [/^(?:\w+: )?(['"].*['"]) is not a time; allowed: (.*)$/s, "$1 不是时间；允许：$2"],
  // Whoever may not.
  [/^expected the header Authorization: Bearer with the secret of the setting change_secret$/, "口令缺失或不正确：应为设置项 change_secret 的口令"],
  [/^neither change_secret nor local_changes is set$/, "设置项 change_secret 和 local_changes 均未启用"],
  [/^without the setting change_secret only this machine may change anything, and the request came from (.*)$/s, "未设置 change_secret 时只有服务器本机可以更改，而请求来自 $1"],
  [/^without the setting change_secret only this machine may change anything, and the request came through a proxy, as its header (\S+) says$/, "未设置 change_secret 时只有服务器本机可以更改，而请求经过了代理（请求头 $1）"],
  [/^without the setting change_secret only this machine may change anything, and the request is for the host (.*)$/s, "未设置 change_secret 时只有服务器本机可以更改，而请求的主机名为 $1"],
  [/^without the setting change_secret only this machine may change anything, and the request comes from a page of (.*)$/s, "未设置 change_secret 时只有服务器本机可以更改，而请求来自 $1 的页面"],
  // Parts that are not there.
  [/^broker (\S+): (.*)$/s, "MQTT 服务器 $1：$2"],
  [/^the broker does not take the command: (.*)$/s, "MQTT 服务器拒绝该指令：$1"],
  [/^no answer within (\S+) s; take a longer step or a shorter range$/, "$1 秒内没有结果；请加大步长或缩短范围"],
  [/^(\d+) commands wait for their answers; repeat in a second$/, "有 $1 条指令在等待应答；请稍后重试"],
  [/^too many questions at once; repeat in a second$/, "查询过多，请稍后重试"],
  [/^(\d+) clients follow the stream; repeat later$/, "已有 $1 个实时连接；请稍后重试"],
  [/^the store cannot be reached; see the log of the service$/, "无法连接存储，详见服务日志"],
  [/^the service failed$/, "服务内部错误，详见服务日志"],
  [/^nothing at (\S+); \/docs lists every path$/, "$1 不存在；全部路径见 /docs"],
  [/^(\w+) is not allowed here; allowed: (.*)$/, "此处不允许 $1；允许：$2"],
];
