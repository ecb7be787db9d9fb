// What the official client for JavaScript gets.
import OpenAI, { AzureOpenAI } from "openai";

const { PICTURE, QUESTION, TOOL_QUESTION, OPENAI_BASE_URL } = process.env;
const BLOCKED = JSON.parse(process.env.BLOCKED), TOOL = JSON.parse(process.env.TOOL);
const client = new OpenAI({ maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const create = (messages, more = {}) => client.chat.completions.create({ model: "demo", messages, ...more });
const said = async (messages, more) => (await create(messages, more)).choices[0].message.content;
const failed = async (ask) => {
  try {
    await ask();
  } catch (error) {
    return [error.status, error.message];
  }
  return null;
};
const streamed = async (messages, got) => {
  let text = "";
  for await (const chunk of await create(messages, { stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    got.usage = chunk.usage?.total_tokens ?? got.usage;
  }
  return text;
};

const got = { models: [] };
for await (const model of client.models.list()) got.models.push(model.id);
got.model = (await client.models.retrieve("demo")).id;
got.plain = await said(user(QUESTION));
got.streamed = await streamed(user(QUESTION), got);
got.picture = await said(user([{ type: "text", text: QUESTION }, { type: "image_url", image_url: { url: PICTURE } }]));

const asked = (await create(user(TOOL_QUESTION), { tools: [TOOL] })).choices[0].message;
const call = asked.tool_calls[0];
got.tool = [call.function.name, JSON.parse(call.function.arguments)];
const told = { role: "tool", tool_call_id: call.id, content: "nine to five" };
got.final = await said([...user(TOOL_QUESTION), asked, told], { tools: [TOOL] });

got.blocked = await said(BLOCKED);
got["blocked, streamed"] = await streamed(BLOCKED, {});
got.unknown = await failed(() => create(user(QUESTION), { model: "nobody" }));
got.responses = await failed(() => client.responses.create({ model: "demo", input: QUESTION }));

// It refuses an endpoint beside the base URL of the environment.
delete process.env.OPENAI_BASE_URL;
const azure = new AzureOpenAI({
  endpoint: OPENAI_BASE_URL.replace(/\/v1$/, ""), apiKey: "none", apiVersion: "2024-10-21",
});
const reply = await azure.chat.completions.create({ model: "demo", messages: user(QUESTION) });
got.azure = reply.choices[0].message.content;
console.log(JSON.stringify(got));
