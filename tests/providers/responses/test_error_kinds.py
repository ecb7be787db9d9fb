"""What vendors' errors come to: blocks, money, accounts, keys, limits, and what is none of them.

The bodies are of the forms that the vendors use; whatever is quoted in them is harmless.
"""

import json
from typing import Any

import pytest

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.responses.outcomes import classify_response, fatal
from safemt_client.providers.types import Outcome, Reply


def classified(status: int, body: Any, **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return classify_response(status, {n.replace("_", "-"): v for n, v in headers.items()}, content)


def error(message: str = "", code: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": code} | more}


IN, OUT = ErrorCode.CONTENT_FILTER_INPUT, ErrorCode.CONTENT_FILTER_OUTPUT
AZURE = {
    "hate": {"filtered": True, "severity": "high"},
    "violence": {"filtered": False, "severity": "safe"},
}
BLOCKS: list[tuple[str, int, Any, ErrorCode]] = [
    ("openai", 400, error("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"), IN),
    ("openai-images", 400, error("Your request was rejected as a result of our safety system.", "moderation_blocked"), IN),
    ("azure", 400, error("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), IN),
    ("azure-result-alone", 400, error("no", innererror={"content_filter_result": AZURE}), IN),
    ("github-models", 400, error("The response was filtered.", None, details={"code": "content_filter"}), IN),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}, OUT),
    ("gemini", 400, error("The prompt could not be submitted. It contains words that violate Google's Responsible AI practices.", 400), IN),
    ("vertex", 400, [error("blocked", 400, status="INVALID_ARGUMENT", details=[{"reason": "PROHIBITED_CONTENT"}])], IN),
    ("bedrock", 400, {"message": "The request was blocked by the guardrail", "__type": "ValidationException"}, IN),
    ("xai", 403, {"code": "permission-denied", "error": "Content violates usage guidelines. Team: t, API key ID: k, Failed check: SAFETY_CHECK_TYPE_X"}, IN),
    ("deepseek", 400, error("Content Exists Risk", "invalid_request_error"), IN),
    ("zhipu", 400, {"contentFilter": [{"level": 1, "role": "user"}], "error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, IN),
    ("zhipu-field-alone", 400, {"contentFilter": [{"level": 1, "role": "user"}], "error": {"message": "no"}}, IN),
    ("dashscope", 400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content.", "request_id": "r"}, IN),
    ("dashscope-compatible", 400, error("<400> InternalError.Algo.DataInspectionFailed: Output data may contain inappropriate content.", "data_inspection_failed"), OUT),
    ("moonshot", 400, error("The request was rejected because it was considered high risk", type="content_filter"), IN),
    ("minimax", 200, {"choices": None, "base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}, OUT),
    ("minimax-openai", 500, error("input new_sensitive, messages[2]'s content[1] image is sensitive, please check your input (1026)", type="server_error"), IN),
    ("volcengine", 400, error("The request failed because the input text may contain sensitive information.", "SensitiveContentDetected.SevereViolation"), IN),
    ("volcengine-input", 400, error("no", "InputTextSensitiveContentDetected"), IN),
    ("tencent", 400, {"Response": {"Error": {"Code": "OperationDenied.TextIllegalDetected", "Message": "no"}}}, IN),
    ("ucloud", 400, error("Sensitive chat messages", "invalid_messages"), IN),
    ("qianfan", 400, {"error_code": 336104, "error_msg": "the input content was flagged, please change it"}, IN),
    ("siliconflow", 451, {"code": 20015, "message": "The content was rejected by moderation", "data": None}, IN),
    ("new-api", 400, error("input contains sensitive words: [x] (request id: 1)", "sensitive_words_detected", type="new_api_error"), IN),
    ("cloudflare-prompt", 424, {"success": False, "error": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]}, IN),
    ("cloudflare-response", 424, {"success": False, "errors": [{"code": 2017, "message": "Response blocked due to security configurations"}]}, OUT),
    ("openrouter", 403, error("Model requires moderation. Your input was flagged", 403, metadata={"reasons": ["x"], "flagged_input": "y"}), IN),
    ("openrouter-raw", 400, error("Provider returned error", 400, metadata={"raw": '{"error": {"code": "content_filter"}}'}), IN),
    ("portkey", 446, error("The guardrail checks defined in the config failed.", None, type="hooks_failed"), IN),
    ("litellm-guardrail", 400, error("{'error': 'Violated guardrail policy', 'bedrock_guardrail_response': 'x'}", "400"), IN),
    ("litellm-nested", 500, error("litellm.BadRequestError: AzureException - {'error': {'code': 'content_filter', 'status': 400}}", "500"), IN),
    ("litellm-bytes", 400, error("VertexAIException - b'{\\n  \"error\": {\\n \"code\": 400,\\n \"status\": \"PROHIBITED_CONTENT\"}}'", "400"), IN),
    ("kong", 400, error("request prompt blocked by content safety policy"), IN),
    ("fastapi", 422, {"detail": {"code": "content_policy_violation", "msg": "no"}}, IN),
    ("fastapi-text", 400, {"detail": "Input flagged by moderation"}, IN),
    ("apigee", 500, {"fault": {"faultstring": "The prompt was blocked", "detail": {"errorcode": "content_blocked"}}}, IN),
    ("top-level", 400, {"object": "error", "message": "Request blocked by safety policy", "type": "BadRequestError", "code": 400}, IN),
    ("problem-json", 400, {"type": "about:blank", "title": "Bad Request", "detail": "The prompt violates our content policy", "status": 400}, IN),
    ("list-of-texts", 400, {"errors": ["The prompt was flagged"]}, IN),
    ("router-in-200", 200, error("no", "content_filter"), IN),
    ("portkey-denied", 446, error("Guardrail denied the request: a number in the prompt"), IN),
    ("wso2", 446, {"code": "900514", "message": {"action": "GUARDRAIL_INTERVENED", "direction": "REQUEST"}}, IN),
    ("openai-cyber", 400, error("This cannot be shown", "cyber_policy"), IN),
    ("openrouter-injection", 403, error("Request blocked: prompt injection patterns detected", 403), IN),
    ("openrouter-type", 403, error("Provider returned error", 403, metadata={"error_type": "content_policy_violation"}), IN),
    ("safety-breach", 400, {"error": {"error_type": "err_safety_breach", "message": "no"}}, IN),
    ("refunded", 400, {"error": "Your generation was blocked due to content policies. Credits have been refunded."}, IN),
    ("cannot-perform", 400, error("We cannot perform this request because of our safety guidelines"), IN),
    ("safety-not-completed", 400, error("Due to safety filters the request could not be completed"), IN),
    ("personal-data", 403, error("Prompt blocked: contains an IP address"), IN),
    ("rails", 400, {"detail": "Blocked by input rails: self check input"}, IN),
    ("flagged-the-input", 400, error("The guard flagged the input"), IN),
    ("filtered-by", 400, {"code": "399259", "message": "response filtered by the guard"}, IN),
    ("failed-moderation", 403, error("Request failed content moderation"), IN),
    ("ethics", 400, {"error": {"httpCode": 400, "message": "The query violates our ethics policy"}}, IN),
    ("chinese-policy", 400, error("输入内容违反安全策略"), IN),
    ("rate-limited-block", 429, error("Your prompt was blocked by our safety filter"), IN),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "code"), [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS]
)
def test_blocks(status: int, body: Any, code: ErrorCode) -> None:
    reply = classified(status, body)
    assert (reply.outcome, reply.error_code) == (Outcome.REFUSED_BY_PROVIDER, code)
    assert reply.error
    assert fatal(reply) is None
    # The same words with 401 are about the key.
    if status >= 400:
        assert classified(401, body).error_code is ErrorCode.AUTHENTICATION


E = ErrorCode
OTHERS: list[tuple[str, int, Any, ErrorCode, bool]] = [
    # no blocks
    ("quoted", 500, error("internal error while handling: 'what is a content_filter?'"), E.SERVER_ERROR, True),
    ("quoted-word", 500, error('cannot tokenize "content_filter"'), E.SERVER_ERROR, True),
    ("quoted-unclosed", 500, error("internal error near \"is my credit balance or content_filter"), E.SERVER_ERROR, True),
    ("failed-generation", 424, {"error": "Request failed during generation", "error_type": "generation"}, E.SERVER_ERROR, True),
    ("filter-broken", 500, error("The content filter is unavailable", "content_filter_error"), E.SERVER_ERROR, True),
    ("moderation-broken", 503, error("moderation service timed out"), E.OVERLOADED, True),
    ("data-policy", 404, error("No endpoints available matching your guardrail restrictions and data policy", 404), E.NOT_FOUND, False),
    ("pydantic", 422, {"detail": [{"type": "missing", "loc": ["body", "x"], "msg": "Field required", "input": {"content": "content_filter"}}]}, E.BAD_REQUEST, False),
    ("forbidden", 403, error("Access denied"), E.FORBIDDEN, False),
    ("forbidden-caller", 403, error("The caller does not have permission", 403, status="PERMISSION_DENIED"), E.FORBIDDEN, False),
    ("region", 400, error("User location is not supported for the API use.", 400, status="FAILED_PRECONDITION"), E.BAD_REQUEST, False),
    # words of blocks about terms, parameters, networks, a fair use, and filters that are broken
    ("terms", 403, {"errors": [{"message": "You must submit 'agree', by which you agree to the licence and the Acceptable Use Policy", "code": 5016}]}, E.FORBIDDEN, False),
    ("fair-use", 429, error("This does not comply with the Fair Usage Policy, and your request frequency has been limited.", "1313"), E.RATE_LIMITED, True),
    ("network-policy", 403, error("Request blocked by network policy: the IP address is not in the allow list", "ip_not_allowed"), E.FORBIDDEN, False),
    ("security-policy", 403, [error("Request is prohibited by organization's policy.", 403, details=[{"reason": "SECURITY_POLICY_VIOLATED"}])], E.FORBIDDEN, False),
    ("filter-name", 400, error("Your request contains invalid content filter policy.", "InvalidContentFilterPolicy"), E.BAD_REQUEST, False),
    ("safety-parameter", 400, error("Unsupported parameter: safety_settings is not supported", "unsupported_parameter"), E.BAD_REQUEST, False),
    ("rate-policy", 400, error("Request violates the rate policy of this deployment: at most 4096"), E.BAD_REQUEST, False),
    ("flag-parameter", 400, error("Invalid value for parameter 'flagged_only'"), E.BAD_REQUEST, False),
    ("harm-parameter", 400, error("Unknown field: harmful_content_threshold"), E.BAD_REQUEST, False),
    ("check-failed", 500, error("Failed to perform moderation check: connection refused"), E.SERVER_ERROR, True),
    ("guardrail-unreachable", 500, error("Guardrail check could not be completed: analyzer unreachable"), E.SERVER_ERROR, True),
    # pages and bare texts
    ("page-403", 403, b"<!DOCTYPE html><html><head><title>Blocked</title></head><body>Invalid API key, flagged by the safety policy</body></html>", E.FORBIDDEN, False),
    ("text-403", 403, b"Request blocked by content policy: invalid API key", E.FORBIDDEN, False),
    ("page-503", 503, b"<html><title>503 Service Temporarily Unavailable</title></html>", E.OVERLOADED, True),
    ("text-402", 400, b"Insufficient balance, please top up", E.QUOTA, False),
    ("empty", 500, b"", E.SERVER_ERROR, True),
    # money
    ("anthropic-money", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}}, E.QUOTA, False),
    ("openai-money", 429, error("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"), E.QUOTA, True),
    ("xai-money", 429, {"code": "Some resource has been exhausted", "error": "Your team has either used all available credits or reached its monthly spending limit."}, E.QUOTA, True),
    ("deepseek-money", 402, error("Insufficient Balance"), E.QUOTA, False),
    ("dashscope-money", 400, error("Access denied, please make sure your account is in good standing.", "Arrearage"), E.QUOTA, False),
    ("volcengine-money", 403, error("The request failed because your account has an overdue balance.", "AccountOverdueError"), E.QUOTA, False),
    ("zhipu-money", 429, error("您的账户已欠费，请充值后重试", "1113"), E.QUOTA, True),
    ("minimax-money", 200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, E.QUOTA, False),
    ("siliconflow-money", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}, E.QUOTA, False),
    ("moonshot-money", 429, error("Your account is suspended, please check your plan and billing details", type="exceeded_current_quota_error"), E.QUOTA, True),
    ("new-api-money", 403, error("用户额度不足", "insufficient_user_quota"), E.QUOTA, False),
    ("openrouter-money", 402, error("This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens", 402), E.QUOTA, False),
    ("openrouter-key", 403, error("Key limit exceeded (daily limit)", 403), E.QUOTA, False),
    ("huggingface-money", 402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, E.QUOTA, False),
    ("litellm-budget", 400, error("Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", "400", type="budget_exceeded"), E.QUOTA, False),
    ("portkey-budget", 412, error("budget exhausted"), E.QUOTA, False),
    ("tencent-money", 400, {"Response": {"Error": {"Code": "FailedOperation.ResourcePackExhausted", "Message": "no"}}}, E.QUOTA, False),
    ("suspended-plan", 403, error("Your subscription has been suspended"), E.QUOTA, False),
    ("xai-no-credits", 403, {"code": "no permission", "error": "Your team doesn't have any credits yet."}, E.QUOTA, False),
    ("ollama-money", 403, error("this model requires a subscription, upgrade for access"), E.QUOTA, False),
    ("groq-money", 400, error("API access is blocked.", "blocked_api_access"), E.QUOTA, False),
    ("volcengine-trial", 429, error("Your account has exhausted its free trial quota", "QuotaExceeded"), E.QUOTA, True),
    ("new-api-token", 403, error("token quota is not enough, need quota: 2"), E.QUOTA, False),
    ("trial-month", 429, {"message": "You are using a Trial key, which is limited to 1000 calls / month"}, E.QUOTA, True),
    ("router-budget", 403, error("Guardrail budget limit exceeded", 403), E.QUOTA, False),
    # accounts
    ("access-limited", 403, error("This user's access to m has been temporarily limited for suspicious activity"), E.ACCOUNT, False),
    ("cloudflare-account", 403, {"errors": [{"message": "Service unavailable for account", "code": 3023}]}, E.ACCOUNT, False),
    ("zhipu-inactive", 429, error("您的账户当前处于非活动状态", "1110"), E.ACCOUNT, False),
    ("deactivated", 403, error("This key is associated with a deactivated account.", "account_deactivated"), E.ACCOUNT, False),
    ("flagged", 403, error("Your account has been flagged for activity that violates our usage policies"), E.ACCOUNT, False),
    ("organization", 400, error("This organization has been disabled."), E.ACCOUNT, False),
    ("terminated", 429, error("Your access was terminated due to violation of our policies", type="access_terminated"), E.ACCOUNT, False),
    ("locked", 429, error("您的账户已被锁定，请联系客服解锁", "1112"), E.ACCOUNT, False),
    # keys
    ("gemini-key", 400, [error("API key not valid. Please pass a valid API key.", 400, details=[{"reason": "API_KEY_INVALID"}])], E.AUTHENTICATION, False),
    ("xai-key", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***12."}, E.AUTHENTICATION, False),
    ("scope", 403, error("You have insufficient permissions for this operation. Missing scopes: model.request"), E.AUTHENTICATION, False),
    ("bedrock-key", 403, {"message": "The security token included in the request is invalid.", "__type": "UnrecognizedClientException"}, E.AUTHENTICATION, False),
    ("gateway-key", 403, error("Virtual key is invalid or has been revoked"), E.AUTHENTICATION, False),
    ("novita-key", 403, {"code": 403, "reason": "INVALID_API_KEY", "message": "no api key"}, E.AUTHENTICATION, False),
    ("fastapi-key", 403, {"detail": "Not authenticated"}, E.AUTHENTICATION, False),
    ("401", 401, {"detail": "no"}, E.AUTHENTICATION, False),
    # limits
    ("minute", 429, error("Rate limit reached for requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s."), E.RATE_LIMITED, True),
    ("anthropic-rate", 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "This request would exceed your organization's rate limit of 40,000 input tokens per minute"}}, E.RATE_LIMITED, True),
    ("bedrock-rate", 400, {"message": "Too many requests, please wait before trying again.", "__type": "ThrottlingException"}, E.RATE_LIMITED, True),
    ("dashscope-rate", 429, error("Allocated quota exceeded, please increase your quota limit.", "insufficient_quota"), E.RATE_LIMITED, True),
    ("dashscope-minute", 429, error("You exceeded your current quota, please check your plan and billing details. See https://help.example/error-code#token-limit", "insufficient_quota"), E.RATE_LIMITED, True),
    ("trial-minute", 429, {"message": "You are using a Trial key, which is limited to 20 calls / minute"}, E.RATE_LIMITED, True),
    ("github-day", 429, error("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 30000 seconds before retrying.", "RateLimitReached"), E.PERIOD_LIMIT, True),
    ("mistral-1300", 429, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}, E.RATE_LIMITED, True),
    ("nvidia-degraded", 400, {"status": 400, "title": "Bad Request", "detail": "Function id 'f': DEGRADED function cannot be invoked"}, E.OVERLOADED, True),
    ("lmstudio-crash", 400, {"error": "The model has crashed without additional information."}, E.OVERLOADED, True),
    ("fastchat-traffic", 400, {"object": "error", "message": "**NETWORK ERROR DUE TO HIGH TRAFFIC.**", "code": 50002}, E.OVERLOADED, True),
    ("qianfan-rate", 200, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, E.RATE_LIMITED, True),
    ("qianfan-day", 200, {"error_code": 17, "error_msg": "Open api daily request limit reached"}, E.QUOTA, False),
    ("vertex-rate", 429, [error("Resource exhausted. Please try again later.", 429, status="RESOURCE_EXHAUSTED")], E.RATE_LIMITED, True),
    ("gemini-quota-wait", 429, [error("You exceeded your current quota, please check your plan and billing details. Please retry in 36.2s.", 429)], E.RATE_LIMITED, True),
    ("gemini-day", 429, [error("You exceeded your current quota. Please retry in 36s.", 429, details=[{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}, {"retryDelay": "36s"}])], E.PERIOD_LIMIT, True),
    ("rolling-day", 429, error("Rate limit reached on tokens per day (TPD): Limit 100000, Used 99336, Requested 2000. Please try again in 9m38s."), E.PERIOD_LIMIT, True),
    ("day-without-a-wait", 429, error("Rate limit exceeded: free-models-per-day", 429), E.QUOTA, True),
    ("moonshot-busy", 429, error("The engine is currently overloaded, please try again later", type="engine_overloaded_error"), E.OVERLOADED, True),
    ("groq-flex", 498, error("Flex tier capacity exceeded"), E.OVERLOADED, True),
    # too large
    ("larger-than-limit", 429, error("Request too large on tokens per min (TPM): Limit 30000, Requested 41000", "rate_limit_exceeded"), E.REQUEST_TOO_LARGE, False),
    ("groq-larger", 413, error("Request too large for model on tokens per minute (TPM): Limit 6000, Requested 7000", "rate_limit_exceeded"), E.REQUEST_TOO_LARGE, False),
    ("openai-long", 400, error("This model's maximum context length is 8192 tokens.", "context_length_exceeded"), E.REQUEST_TOO_LARGE, False),
    ("anthropic-long", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 250000 tokens > 200000 maximum"}}, E.REQUEST_TOO_LARGE, False),
    ("llamacpp-long", 500, error("the request exceeds the available context size", 500, type="exceed_context_size_error"), E.REQUEST_TOO_LARGE, False),
    ("anthropic-image", 400, error("messages.0.content.0.image.source.base64: image exceeds 5 MB maximum"), E.REQUEST_TOO_LARGE, False),
    ("tgi-sum", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 100. Given: 90 `inputs` tokens", "error_type": "validation"}, E.REQUEST_TOO_LARGE, False),
    ("tgi-long", 422, {"error": "`inputs` must have less than 2048 tokens. Given: 2222"}, E.REQUEST_TOO_LARGE, False),
    ("lmstudio-long", 400, {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"}, E.REQUEST_TOO_LARGE, False),
    ("openai-string", 400, error("Invalid 'messages[1].content': string too long.", "string_above_max_length"), E.REQUEST_TOO_LARGE, False),
    ("router-string", 400, error("Provider returned error", 400, metadata={"error_type": "string_too_long"}), E.REQUEST_TOO_LARGE, False),
    ("qianfan-long", 400, error("the max input characters is 8000", "characters_too_long"), E.REQUEST_TOO_LARGE, False),
    ("llamacpp-200", 200, error("the request exceeds the available context size", 400, type="exceed_context_size_error"), E.REQUEST_TOO_LARGE, False),
    # models and addresses
    ("huggingface-model", 400, error("The requested model 'm' is not supported by any provider you have enabled.", "model_not_supported"), E.MODEL_NOT_FOUND, False),
    ("github-model", 400, error("Unavailable model: m", "unavailable_model"), E.MODEL_NOT_FOUND, False),
    ("bedrock-access", 403, {"message": "You don't have access to the model with the specified model ID."}, E.MODEL_NOT_FOUND, False),
    ("cloudflare-model", 400, {"errors": [{"message": "No such model @cf/none", "code": 5007}], "success": False}, E.MODEL_NOT_FOUND, False),
    ("groq-retired", 400, error("The model `old-model` has been decommissioned and is no longer supported.", "model_decommissioned"), E.MODEL_NOT_FOUND, False),
    ("ollama-model", 404, error('model "x" not found, try pulling it first'), E.MODEL_NOT_FOUND, False),
    ("azure-model", 404, error("The API deployment for this resource does not exist.", "DeploymentNotFound"), E.MODEL_NOT_FOUND, False),
    ("unsupported-input", 404, error("No endpoints found that support image input", 404), E.BAD_REQUEST, False),
    # the rest
    ("parameter", 400, error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "unsupported_parameter"), E.BAD_REQUEST, False),
    ("lmstudio", 200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, E.BAD_RESPONSE, True),
    ("locked-423", 423, error("come back later"), E.SERVER_ERROR, True),
    ("460", 460, error("come back later"), E.TIMEOUT, True),
    ("530", 530, b"error code: 1016", E.SERVER_ERROR, True),
    ("501", 501, error("no"), E.BAD_REQUEST, False),
]  # fmt: skip
STOPPING = {E.AUTHENTICATION, E.ACCOUNT, E.QUOTA, E.MODEL_NOT_FOUND, E.NOT_FOUND, E.REDIRECTED}


@pytest.mark.parametrize(
    ("status", "body", "code", "passes"), [row[1:] for row in OTHERS], ids=[row[0] for row in OTHERS]
)
def test_what_is_no_block(status: int, body: Any, code: ErrorCode, passes: bool) -> None:
    reply = classified(status, body)
    expected = Outcome.ERROR_TRANSIENT if passes else Outcome.ERROR_PERMANENT
    assert (reply.error_code, reply.outcome) == (code, expected)
    assert (fatal(reply) is not None) == (code in STOPPING)
    assert (
        "check the API key" not in (fatal(reply) or "")
        or status == 401
        or "key" in (reply.error or "").lower()
    )


def test_the_servers_own_words_are_told() -> None:
    assert (classified(403, b"<html><title>Attention</title>").error, classified(502, b"").error) == (
        "Attention",
        "no body",
    )
    assert classified(500, b"<html><style>p{}</style><script>x</script><p>Sorry</p>").error == "Sorry"
    assert classified(400, {"oops": 1}).error == '{"oops": 1}'
    assert "spending limit" in (fatal(classified(429, OTHERS_BY_NAME["xai-money"])) or "")
    assert "No such model" in (fatal(classified(400, OTHERS_BY_NAME["cloudflare-model"])) or "")


OTHERS_BY_NAME = {row[0]: row[2] for row in OTHERS}


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("https://elsewhere.example/v1/chat/completions", "give https://elsewhere.example/v1"),
        (
            "https://user:pw@elsewhere.example:8443/v1/chat/completions?key=k#x",
            "https://elsewhere.example:8443/v1",
        ),
        ("//elsewhere.example/api/", "give https://elsewhere.example/api"),
        ("", "another address"),
        ("/login", "the path /login"),
        ("http://[", "another address"),
    ],
)
def test_a_redirect_tells_the_address_to_give(location: str, said: str) -> None:
    reply = classified(308, b"", location=location)
    assert (reply.outcome, reply.error_code) == (Outcome.ERROR_PERMANENT, ErrorCode.REDIRECTED)
    stopped = fatal(reply) or ""
    assert said in stopped
    assert "pw" not in stopped
    assert "key" not in stopped
